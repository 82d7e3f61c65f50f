"""The bits of each block and of the costliest values, chosen for a goal."""
