"""Pipelines of diffusers: images from text, or from text and an image."""
