"""A model in this process: a thread asks it, so that planning and storing never make a device wait."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from emu2eval.adapters.base import Adapter, of_adapter
from emu2eval.encoders.base import Encoder
from emu2eval.engine.asking import streams
from emu2eval.engine.backends.base import Answers, Batch, Ended, Event
from emu2eval.engine.backends.devices import devices_of
from emu2eval.engine.backends.threaded import Threaded
from emu2eval.engine.backends.worker import Worker
from emu2eval.runs.record import RanOn
from emu2eval.types import Image

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class Here:
    """The backend of this process.

    telling: called before weights are read. inline: the model is asked on the calling thread; for an object
    of the caller's program, which may lean on what that thread has set, such as torch.autocast.
    """

    def __init__(self, adapter: Adapter, telling: Callable[[], None], *, inline: bool = False):
        self._adapter = adapter
        self._telling = telling
        self._inline = inline and not streams(adapter)
        self._loaded = False
        self._run: _Inline | Threaded | None = None

    @property
    def loaded(self) -> bool:
        return self._loaded

    def settle(self) -> None:
        """It runs on what this process sees."""

    def load(self) -> None:
        if not self._loaded:
            if type(self._adapter).load is not Adapter.load:
                self._telling()
            with of_adapter(self._adapter):
                self._adapter.load()
            self._loaded = True

    def begin(self) -> None:
        self._close_run()
        self._run = _Inline(self._adapter) if self._inline else Threaded(self._adapter)

    def room(self, size: int) -> bool:
        return self._under_way.room(size)

    def submit(self, batch: Batch) -> None:
        self._under_way.submit(batch)

    def wait(self) -> Event:
        return self._under_way.wait()

    def end(self) -> None:
        self._under_way.end()

    def stop(self, within: float) -> Iterator[Answers]:
        if self._run is not None:
            yield from self._run.stop(within)

    @property
    def at_once(self) -> int:
        return Encoder.batch

    def encode(self, images: Sequence[Image] | Sequence[str]) -> npt.NDArray[np.float32]:
        self.load()
        return self._adapter.encode_images(images)  # type: ignore[arg-type]

    def ran_on(self, now: RanOn) -> RanOn:
        return msgspec.structs.replace(now, devices=devices_of(self._adapter))

    def close(self) -> None:
        idle = self._close_run()
        if self._loaded and idle:
            # One that is still answering is not closed below its feet; it ends with the process.
            with of_adapter(self._adapter):
                self._adapter.close()
        self._loaded = False

    @property
    def _under_way(self) -> _Inline | Threaded:
        assert self._run is not None, "begin() comes first"
        return self._run

    def _close_run(self) -> bool:
        run, self._run = self._run, None
        return run is None or run.close()


class _Inline:
    """Answers a batch while it is waited for."""

    def __init__(self, adapter: Adapter):
        self._worker = Worker(adapter)
        self._waiting: deque[Batch] = deque()
        self._events: Generator[Event] | None = None

    def room(self, size: int) -> bool:
        answering = self._events is not None
        return len(self._waiting) + answering < self._worker.batches(size)

    def submit(self, batch: Batch) -> None:
        if self._waiting or self._events is not None:
            self._worker.prepare(batch)
        self._waiting.append(batch)

    def wait(self) -> Event:
        if self._events is None:
            self._events = self._worker.work([self._waiting.popleft()])
        event = next(self._events)
        if isinstance(event, Ended):
            self._events.close()
            self._events = None
        return event

    def end(self) -> None:
        pass

    def stop(self, within: float) -> Iterator[Answers]:
        return iter(())  # whatever was under way on this thread is not any more

    def close(self) -> bool:
        if self._events is not None:
            self._events.close()
        self._worker.close()
        return True
