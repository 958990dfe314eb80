"""Estimates with their errors, the bootstrap, paired tests."""
