"""`--log`: trackers that hear of a run while it goes on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from emu2eval.watch import Watcher, Watchers


@contextmanager
def logged(named: Sequence[str], watcher: Watcher) -> Iterator[Watcher]:
    """The watcher, with the loggers of these names beside it. Raises UnknownName or MissingExtra."""
    if not named:
        yield watcher
        return
    from emu2eval.exports.loggers import Logging, loggers

    with Logging(loggers(named), watcher.note) as logging:
        yield Watchers(watcher, logging)
