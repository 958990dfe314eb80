"""Stored runs for other programs: pandas, trackers, test servers."""
