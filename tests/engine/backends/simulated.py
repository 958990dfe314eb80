"""A site with a clock of its own: hours of replicas that are slow, die and start again, in milliseconds."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from emu2eval.engine.asked import Answered
from emu2eval.engine.backends.base import Batch, Ended
from emu2eval.engine.backends.replica import Outcome, ReplicaReport
from emu2eval.engine.backends.site import Call, ReplicaDied
from emu2eval.runs.record import ModelIdentity, versions
from emu2eval.types import Response

IDENTITY = ModelIdentity(adapter="device", settings={})


class Process:
    def __init__(self, number: int):
        self.number = number
        self.dead = False
        self.queue: list[tuple[int, Batch]] = []
        self.open: set[int] = set()
        self.busy = False


class Simulated:
    """seconds: that the n-th process takes for a batch; deadly: slots that end whoever begins them.

    begun: every slot that was begun, in order; deepest: batches that a process had at once at most; idle:
    how many slots were begun whenever a process ended a batch and had no other at hand.
    """

    def __init__(
        self,
        seconds: Callable[[int], float],
        *,
        loading: float = 0.0,
        deadly: frozenset[int] = frozenset(),
    ):
        self.now = 0.0
        self.started: list[Process] = []
        self.begun: list[int] = []
        self.deepest = 0
        self.idle: list[int] = []
        self.lost = 0
        """Requests that were with processes when these died."""
        self._seconds, self._loading, self._deadly = seconds, loading, deadly
        self._numbers = count()
        self._ended: dict[int, Any] = {}
        self._coming: list[tuple[float, int, Callable[[], None]]] = []

    def at(self, time: float, then: Callable[[], None]) -> None:
        heapq.heappush(self._coming, (time, next(self._numbers), then))

    def start(self) -> Process:
        self.started.append(Process(len(self.started)))
        return self.started[-1]

    def call(self, process: Process, method: str, *given: Any) -> Call:
        number = next(self._numbers)
        if process.dead:
            self._ended[number] = ReplicaDied("it was dead already")
            return number
        process.open.add(number)
        if method == "load":
            report = ReplicaReport(
                host="here",
                process=process.number,
                devices={},
                identity=IDENTITY,
                versions=versions(),
            )
            self.at(self.now + self._loading, lambda: self._end(process, number, report))
        elif method == "ask":
            process.queue.append((number, given[1]))
            self.deepest = max(self.deepest, len(process.queue))
            self._begin(process)
        elif method == "withdraw":
            waiting = process.queue[1:] if process.busy else process.queue
            for call, batch in list(waiting):
                if batch.number == given[1]:
                    process.queue.remove((call, batch))
                    self._end(process, call, None)
        return number

    def wait(self, calls: Sequence[Call], timeout: float | None) -> Sequence[Call]:
        while not (ended := [call for call in calls if call in self._ended]):
            assert self._coming, "the pool waits for what never comes"
            self.now, _, then = heapq.heappop(self._coming)
            then()
        return ended

    def result(self, call: Call) -> Any:
        found = self._ended.pop(call)  # type: ignore[call-overload]
        if isinstance(found, Exception):
            raise found
        return found

    def kill(self, process: Process) -> None:
        if process.dead:
            return
        process.dead = True
        self.lost += sum(len(batch.asked) for _, batch in process.queue)
        for number in process.open:
            self._ended[number] = ReplicaDied("killed")
        process.open.clear()

    def close(self) -> None:
        pass

    def _begin(self, process: Process) -> None:
        if process.busy or not process.queue:
            return
        process.busy = True
        number, batch = process.queue[0]
        slots = [asked.slot for asked in batch.asked]
        self.begun += slots
        if self._deadly.intersection(slots):
            self.at(self.now, lambda: self.kill(process))
            return
        answered = tuple(Answered(slot, Response(text="a"), 0.0) for slot in slots)
        outcome = Outcome(answered, Ended(batch.number, len(slots)))

        def ended() -> None:
            if process.dead:
                return
            process.busy = False
            process.queue.pop(0)
            if not process.queue:
                self.idle.append(len(self.begun))
            self._end(process, number, outcome)
            self._begin(process)

        self.at(self.now + self._seconds(process.number), ended)

    def _end(self, process: Process, number: int, result: Any) -> None:
        if not process.dead:
            process.open.discard(number)
            self._ended[number] = result
