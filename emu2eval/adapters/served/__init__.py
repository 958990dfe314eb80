"""Serving engines of the user's own installation, started for one model and stopped after it."""
