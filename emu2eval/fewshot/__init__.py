"""Which demonstrations a query is shown, and why."""
