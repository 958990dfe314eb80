"""Published tables, ours beside them, and making them again."""
