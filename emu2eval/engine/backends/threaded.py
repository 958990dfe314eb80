"""A worker on a thread of its own: a device waits neither for planning nor for the disk."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from queue import Empty, SimpleQueue
from threading import Condition, Thread

from emu2eval.adapters.base import Adapter
from emu2eval.engine.backends.base import Answers, Batch, Ended, Event, HasRoom
from emu2eval.engine.backends.worker import Worker


class Threaded:
    """Answers batches in their order, while the next are planned and the last ones stored."""

    def __init__(self, adapter: Adapter):
        self._worker = Worker(adapter)
        self._inbox = _Inbox()
        self._outbox: SimpleQueue[Event | BaseException | None] = SimpleQueue()
        self._under_way: set[int] = set()
        self._abandoned = False
        self._thread = Thread(target=self._work, name="emu2eval model", daemon=True)
        self._thread.start()

    def batches(self, size: int) -> int:
        """How many batches of so many requests it wants at hand."""
        return self._worker.batches(size)

    def room(self, size: int) -> bool:
        if self._worker.streams:
            return len(self._inbox) < 2
        return len(self._under_way) < self.batches(size)

    def submit(self, batch: Batch) -> None:
        if self._under_way:
            self._worker.prepare(batch)
        self._under_way.add(batch.number)
        self._inbox.put(batch)

    def withdraw(self, number: int) -> bool:
        """Takes a batch back that is not begun."""
        taken = self._inbox.remove(number)
        if taken:
            self._under_way.discard(number)
        return taken

    def end(self) -> None:
        """A stream waits for no more requests than it has. Others that come are a stream of their own."""
        self._inbox.end()

    def wait(self) -> Event:
        event = self._outbox.get()
        assert event is not None, "something was waited for when nothing was under way"
        if isinstance(event, BaseException):
            self._under_way.clear()
            raise event
        if isinstance(event, Ended):
            self._under_way.discard(event.batch)
        return event

    def stop(self, within: float) -> Iterator[Answers]:
        waiting = self._inbox.close()
        self._under_way -= waiting
        self._worker.finish()
        until = time.monotonic() + within
        while self._under_way and (left := until - time.monotonic()) > 0:
            try:
                event = self._outbox.get(timeout=left)
            except Empty:
                return
            if event is None or isinstance(event, BaseException):
                return
            if isinstance(event, Answers):
                yield event
            elif isinstance(event, Ended):
                self._under_way.discard(event.batch)

    def close(self) -> bool:
        """Whether nothing is under way any more."""
        self._abandoned = True
        self._inbox.close()
        self._thread.join(timeout=1.0)
        if not self._thread.is_alive():
            self._worker.close()
        return not self._thread.is_alive()

    def _work(self) -> None:
        last: BaseException | None = None
        try:
            while not self._inbox.closed:
                with closing(self._worker.work(self._coming())) as events:
                    for event in events:
                        self._outbox.put(event)
                        if self._abandoned:
                            return
        except BaseException as error:
            last = error
        finally:
            self._outbox.put(last)

    def _coming(self) -> Iterator[Batch]:
        """Until no more are said to come."""
        while (batch := self._inbox.take()) is not None:
            if self._worker.streams:
                self._outbox.put(HasRoom())
            yield batch


class _Inbox:
    """Batches that wait for their turn."""

    def __init__(self) -> None:
        self._batches: deque[Batch] = deque()
        self._changed = Condition()
        self._ending = False
        self._pause = False
        self.closed = False

    def __len__(self) -> int:
        return len(self._batches)

    def put(self, batch: Batch) -> None:
        with self._changed:
            self._batches.append(batch)
            self._pause = self._ending
            self._changed.notify()

    def remove(self, number: int) -> bool:
        with self._changed:
            found = [batch for batch in self._batches if batch.number == number]
            for batch in found:
                self._batches.remove(batch)
            return bool(found)

    def end(self) -> None:
        with self._changed:
            self._ending = self._pause = True
            self._changed.notify()

    def close(self) -> set[int]:
        """Nothing is given any more. The numbers of those that wait."""
        with self._changed:
            self.closed = True
            waiting = {batch.number for batch in self._batches}
            self._batches.clear()
            self._changed.notify()
            return waiting

    def take(self) -> Batch | None:
        """The next; None, once, where no more are said to come."""
        with self._changed:
            while True:
                if self.closed:
                    return None
                if self._batches:
                    return self._batches.popleft()
                if self._pause:
                    self._pause = False
                    return None
                self._changed.wait()
