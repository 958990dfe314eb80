"""Pipelines of diffusers: pictures from text, or from text and a picture."""
