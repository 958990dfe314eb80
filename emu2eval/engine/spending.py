"""What a run really used of a server, kept with its record through every restart."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from emu2eval.adapters.base import Adapter, of_adapter
from emu2eval.types import Used

EVERY = 20.0
"""Seconds between writes while a run goes on: a kill loses no more than that."""


class Spending:
    """Adds what an adapter uses from here on to what was used before, and hands it to `keep`.

    before: of earlier commands; keep: writes the sum.
    """

    def __init__(self, adapter: Adapter, before: Used | None, keep: Callable[[Used], None]):
        self._adapter = adapter
        self._before = before or Used()
        self._keep = keep
        self._at_first = self._now()
        self._kept = Used()
        self._due = time.monotonic() + EVERY

    @property
    def now(self) -> Used:
        """Of this command alone."""
        return self._now().since(self._at_first)

    def telling(self, progress: Callable[[int], None]) -> Callable[[int], None]:
        """The progress of asking, which also writes the sum now and then."""

        def settled(count: int) -> None:
            progress(count)
            if time.monotonic() >= self._due:
                self._write()

        return settled

    def __enter__(self) -> Spending:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._write()

    def _now(self) -> Used:
        with of_adapter(self._adapter):
            return self._adapter.used() or Used()

    def _write(self) -> None:
        now = self.now
        if now != self._kept:
            self._keep(self._before + now)
            self._kept = now
        self._due = time.monotonic() + EVERY


def said(used: Used) -> str:
    """For a person to read.

    >>> said(Used(requests=12, tokens_in=4100, tokens_out=36, cached=1024, money=0.05))
    '12 requests, 4,100 tokens read (1,024 of them cached), 36 written, 0.05 in money'
    """
    parts = [f"{used.cached:,} of them cached"] if used.cached else []
    parts += [f"{used.of_images:,} for images"] if used.of_images else []
    inside = f" ({', '.join(parts)})" if parts else ""
    thought = f" ({used.of_thought:,} of them reasoning)" if used.of_thought else ""
    requests = "1 request" if used.requests == 1 else f"{used.requests:,} requests"
    text = f"{requests}, {used.tokens_in:,} input tokens{inside}, {used.tokens_out:,} output tokens{thought}"
    if used.money is not None:
        text += f", cost {used.money:,.4g}" if used.money < 0.1 else f", cost {used.money:,.2f}"
    if used.uncounted:
        text += f"; the server reported no usage for {used.uncounted:,}"
    return text
