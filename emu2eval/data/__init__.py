"""Readers: files of a benchmark -> Samples."""
