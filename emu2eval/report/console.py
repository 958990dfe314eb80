"""Where tables are printed."""

from __future__ import annotations

import sys

from rich.console import Console


def console() -> Console:
    """Standard output. Piped into a file there is no terminal to fit: nothing is cut."""
    return Console(width=None if sys.stdout.isatty() else 160, highlight=False)
