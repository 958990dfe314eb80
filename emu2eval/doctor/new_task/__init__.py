"""A first task file, written from a look at the data."""
