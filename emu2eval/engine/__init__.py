"""Runs: asking, storing, scoring. The run store is the only thing here that writes to disk."""
