"""Rows -> tables that people and programs read."""
