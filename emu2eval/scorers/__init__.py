"""Scorers: functional cores under thin classes. None sees a model or a prompt."""
