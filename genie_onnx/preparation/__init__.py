"""A model file -> everything a run needs to know about it."""
