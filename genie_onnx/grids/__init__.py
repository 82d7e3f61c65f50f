"""Which values share a grid, which have one of their own or none, and how channels are scaled to use theirs."""
