"""Where a quantised file loses against its float model, why, and what to try."""
