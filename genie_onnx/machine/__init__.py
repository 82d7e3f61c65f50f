"""Where a run computes, what it may take of the machine, and how files get onto its disk."""
