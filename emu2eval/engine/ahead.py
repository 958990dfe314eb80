"""Reads ahead: images of the requests that come next are decoded while a model answers."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from emu2eval.adapters.base import Adapter
from emu2eval.media.cores import cores
from emu2eval.types import Request

BATCHES = 2
"""Batches that are under way at least: one that is answered, and one that is made ready meanwhile."""


class Ahead:
    """Prepares requests on worker threads, in the order in which they will be asked.

    Threads, not processes: decoding, resizing and arithmetic on arrays all release the interpreter's lock.
    None is started for an adapter that has nothing to prepare.
    """

    def __init__(self, adapter: Adapter):
        self.threads = 0
        self._adapter = adapter
        self._workers: ThreadPoolExecutor | None = None
        self._under_way: deque[Future[None]] = deque()
        if type(adapter).prepare is not Adapter.prepare:
            self.threads = adapter.workers or cores()
            self._workers = ThreadPoolExecutor(self.threads, thread_name_prefix="emu2eval ahead")

    def batches(self, size: int) -> int:
        """How many batches of so many requests are worth having: two, or a request for each thread.

        Enough to hide the decoding, and little enough to hold.
        """
        return max(BATCHES, 1 + -(-self.threads // max(1, size)))

    def prepare(self, coming: Iterable[Request]) -> None:
        """Begins with these. What they raise, `answer` raises in its place."""
        if self._workers is None:
            return
        while self._under_way and self._under_way[0].done():
            self._under_way.popleft()
        for request in coming:
            self._under_way.append(self._workers.submit(self._adapter.prepare, request))

    def close(self) -> None:
        """Drops what has not begun."""
        if self._workers is not None:
            self._workers.shutdown(cancel_futures=True)
