"""The images of a run: which ones, where they come from, what is done to them, where they are kept."""
