"""One adapter at work: takes batches in their order, and prepares those that wait meanwhile."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing

from emu2eval.adapters.base import Adapter
from emu2eval.engine.ahead import Ahead
from emu2eval.engine.asked import Asked
from emu2eval.engine.asking import Asker
from emu2eval.engine.backends.base import Answers, Batch, Ended, Event


class Worker:
    """Lives where the model does: in this process, or in a replica's. One for each run."""

    def __init__(self, adapter: Adapter):
        self.asker = Asker(adapter)
        self._adapter = adapter
        self._ahead = Ahead(adapter)

    @property
    def streams(self) -> bool:
        return self.asker.streams

    def batches(self, size: int) -> int:
        """How many batches of so many requests it wants at hand."""
        return self._ahead.batches(size)

    def prepare(self, batch: Batch) -> None:
        """Begins what can be done for a batch that waits, on other threads."""
        self._ahead.prepare([asked.request for asked in batch.asked])

    def work(self, batches: Iterable[Batch]) -> Generator[Event]:
        """What comes of the batches. Takes each when its turn comes. Raises UserError."""
        if self.asker.streams:
            yield from self._streamed(batches)
            return
        for batch in batches:
            with closing(self.asker.ask_all(batch.asked)) as portions:
                for answered in portions:
                    yield Answers(batch.number, answered)
            yield self._ended(batch.number)

    def finish(self) -> None:
        """Sends nothing more."""
        self._adapter.finish()

    def close(self) -> None:
        self._ahead.close()

    def _streamed(self, batches: Iterable[Batch]) -> Generator[Event]:
        """Requests go on from batch to batch without a pause."""
        batch_of: dict[int, int] = {}
        left: dict[int, int] = {}

        def requests() -> Iterator[Asked]:
            for batch in batches:
                left[batch.number] = len(batch.asked)
                for asked in batch.asked:
                    batch_of[asked.slot] = batch.number
                    yield asked

        with closing(self.asker.ask_all(requests())) as portions:
            for answered in portions:
                for each in answered:
                    number = batch_of.pop(each.slot)
                    yield Answers(number, [each])
                    left[number] -= 1
                    if not left[number]:
                        del left[number]
                        yield self._ended(number)

    def _ended(self, number: int) -> Ended:
        return Ended(number, self.asker.largest, self.asker.most, self.asker.again())
