"""A replica: one copy of a model in a process of its own, on whichever machine that runs."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, Thread
from typing import TYPE_CHECKING

import msgspec

from emu2eval.adapters.base import Adapter, of_adapter
from emu2eval.engine.asked import Answered
from emu2eval.engine.asking import streams
from emu2eval.engine.backends.base import Answers, Batch, Ended
from emu2eval.engine.backends.devices import devices_of
from emu2eval.engine.backends.threaded import Threaded
from emu2eval.engine.models import open_model
from emu2eval.engine.plan import model_identity
from emu2eval.runs.record import ModelIdentity, versions
from emu2eval.spec.changes import Changes
from emu2eval.spec.model import ModelSpec
from emu2eval.trust import trusting
from emu2eval.types import Image

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from emu2eval.adapters.memory import Workload


@dataclass(frozen=True, slots=True)
class ReplicaStart:
    """All that makes a replica: a few hundred bytes; weights are read where it runs. device: as of
    `open_model`; workload: what its requests are like; cores: its share of its machine. folder, paths: of
    the driver, so that relative paths and plug-ins are found; where they are not there, nothing is. trusted:
    the user said that code may be run, as of `trust.trusting`."""

    model: ModelSpec
    device: str | None = None
    workload: Workload | None = None
    cores: int | None = None
    folder: str = ""
    paths: tuple[str, ...] = ()
    trusted: bool = False

    def enter(self) -> None:
        """Makes this process look for files and modules where the driver does."""
        if self.folder and Path(self.folder).is_dir():
            os.chdir(self.folder)
        sys.path += [path for path in self.paths if path not in sys.path and Path(path).exists()]


class ReplicaReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a replica is, once it has loaded. identity: what decides its answers. threads: on which it reads
    ahead."""

    host: str
    process: int
    devices: dict[str, int]
    identity: ModelIdentity
    versions: dict[str, str]
    threads: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that came of a batch."""

    answered: tuple[Answered, ...]
    ended: Ended


class Replica:
    """Called from several threads at once: a batch waits for its turn inside `ask`."""

    def __init__(self, start: ReplicaStart):
        self._start = start
        self._adapter: Adapter | None = None
        self._work: _Work | None = None
        self._changing = Lock()

    def load(self) -> ReplicaReport:
        """Raises UserError."""
        start = self._start
        start.enter()
        with trusting(start.trusted):
            opened = open_model(start.model, Changes(), start.device)
        adapter = opened.adapter
        adapter.workload = start.workload
        adapter.workers = adapter.workers or start.cores
        for lack in adapter.lacks():
            raise lack
        identity = model_identity(opened.spec, adapter)
        with of_adapter(adapter):
            adapter.load()
        self._adapter = adapter
        return ReplicaReport(
            host=socket.gethostname(),
            process=os.getpid(),
            devices=devices_of(adapter),
            identity=identity,
            versions=versions(),
            threads=adapter.workers or 0,
        )

    def ask(self, run: int, batch: Batch) -> Outcome | None:
        """Waits until all has come; None where the batch was withdrawn. run: batches of another one begin
        only when all of this one's have come. Raises UserError."""
        with self._changing:
            if self._work is None or self._work.run != run:
                if self._work is not None:
                    self._work.close()
                assert self._adapter is not None, "load() comes first"
                self._work = _Work(self._adapter, run)
            coming = self._work.submit(batch)
        return coming.result()

    def withdraw(self, run: int, number: int) -> None:
        """Gives a batch back that is not begun, so that another replica can have it."""
        with self._changing:
            if self._work is not None and self._work.run == run:
                self._work.withdraw(number)

    def end(self, run: int) -> None:
        """Whatever still comes of a run is not waited for by a stream."""
        with self._changing:
            if self._work is not None and self._work.run == run:
                self._work.end()

    def encode(self, images: Sequence[Image] | Sequence[str]) -> npt.NDArray[np.float32]:
        assert self._adapter is not None, "load() comes first"
        with of_adapter(self._adapter):
            return self._adapter.encode_images(images)  # type: ignore[arg-type]

    def close(self) -> None:
        with self._changing:
            if self._work is not None:
                self._work.close()
            if self._adapter is not None:
                self._adapter.close()


class _Work:
    """The batches of one run."""

    def __init__(self, adapter: Adapter, run: int):
        self.run = run
        self._threaded = Threaded(adapter)
        if streams(adapter):
            # It never waits for a batch that only comes once it has answered: it ends, and another begins.
            self._threaded.end()
        self._coming: dict[int, Future[Outcome | None]] = {}
        self._answered: dict[int, list[Answered]] = {}
        self._error: BaseException | None = None
        """What ended it."""
        Thread(target=self._listen, name="emu2eval answers", daemon=True).start()

    def submit(self, batch: Batch) -> Future[Outcome | None]:
        coming = self._coming[batch.number] = Future()
        self._answered[batch.number] = []
        self._threaded.submit(batch)
        if self._error is not None:
            self._fail(self._error)
        return coming

    def withdraw(self, number: int) -> None:
        if self._threaded.withdraw(number):
            self._answered.pop(number, None)
            if (coming := self._coming.pop(number, None)) is not None:
                coming.set_result(None)

    def end(self) -> None:
        self._threaded.end()

    def close(self) -> None:
        self._threaded.close()

    def _listen(self) -> None:
        try:
            while True:
                event = self._threaded.wait()
                if isinstance(event, Answers):
                    self._answered[event.batch] += event.answered
                elif isinstance(event, Ended):
                    answered = self._answered.pop(event.batch)
                    self._coming.pop(event.batch).set_result(Outcome(tuple(answered), event))
        except BaseException as error:
            # That the worker was closed is what it ends with as a rule.
            self._error = error
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """What ends it ends all that waits, and what comes after; called on two threads."""
        with suppress(KeyError):
            while True:
                _, coming = self._coming.popitem()
                coming.set_exception(error)
