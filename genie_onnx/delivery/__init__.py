"""Codes -> a file that its target takes, judged against what was simulated."""
