"""Answers given elsewhere: logs of other harnesses, files of predictions, folders of images."""
