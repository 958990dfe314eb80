"""Where tables are printed: what data, names and replies hold never takes hold of the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from emu2eval.errors import printable

PIPED = 1000
"""Columns where there is no terminal to fit: as wide as a table is."""


class SafeConsole(Console):
    """Writes out the control characters of everything that it prints; its own it keeps."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(printable(segment.text), segment.style)

    def on_broken_pipe(self) -> None:
        """The reader of the pipe, such as `head`, has gone: the rest is left unsaid."""
        self.quiet = True


def console(*, err: bool = False, **options: Any) -> SafeConsole:
    """Standard output, or standard error. Piped into a file nothing is cut to the width of a terminal."""
    stream = sys.stderr if err else sys.stdout
    width = None if stream is None or stream.isatty() else PIPED
    return SafeConsole(stderr=err, width=width, highlight=False, **options)
