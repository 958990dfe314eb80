"""One bar on standard error while a page is made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import Progress

from emu2eval.report.console import console
from emu2eval.report.page.build import Told


@contextmanager
def told_bars() -> Iterator[Told]:
    """A bar that is told what is done, how much of it, of how much."""
    with Progress(console=console(err=True), transient=True) as bars:
        task = bars.add_task("reading runs", total=None)

        def told(what: str, done: int, total: int) -> None:
            bars.update(task, description=what, completed=done, total=total)

        yield told
