"""Runs on the disk: written, read and found. Knows nothing that asks a model."""
