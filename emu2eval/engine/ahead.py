"""Reads ahead: images of the requests that come next are decoded while a model answers."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from emu2eval.adapters.base import Adapter
from emu2eval.media.cores import cores
from emu2eval.types import Request

BATCHES = 2
"""How far it reads, or a request for each thread: enough to hide the decoding, little enough to hold."""


class Ahead:
    """Prepares requests on worker threads, in the order in which they will be asked."""

    def __init__(self, adapter: Adapter, workers: ThreadPoolExecutor | None, threads: int = 0):
        self.adapter = adapter
        self.threads = threads
        self._workers = workers
        self._under_way: deque[Future[None]] = deque()
        self._seen: set[str] = set()

    def far(self, batch: int) -> int:
        """How many of the requests that come next are worth preparing."""
        return max(BATCHES * batch, self.threads)

    def prepare(self, coming: Sequence[Request]) -> None:
        """Begins with those that are not begun yet. What they raise, `answer` raises in its place."""
        if self._workers is None:
            return
        while self._under_way and self._under_way[0].done():
            self._under_way.popleft()
        keys = {request.key for request in coming}
        for request in coming:
            if request.key not in self._seen:
                self._under_way.append(self._workers.submit(self.adapter.prepare, request))
        self._seen = keys

    def stop(self) -> None:
        """Drops what has not begun."""
        for future in self._under_way:
            future.cancel()


@contextmanager
def reading_ahead(adapter: Adapter) -> Iterator[Ahead]:
    """For as long as requests are asked; starts no thread for an adapter that has nothing to prepare.

    Threads, not processes: decoding, resizing and arithmetic on arrays all release the interpreter's lock.
    """
    if type(adapter).prepare is Adapter.prepare:
        yield Ahead(adapter, None)
        return
    threads = adapter.workers or cores()
    with ThreadPoolExecutor(threads, thread_name_prefix="emu2eval ahead") as workers:
        ahead = Ahead(adapter, workers, threads)
        try:
            yield ahead
        finally:
            ahead.stop()
