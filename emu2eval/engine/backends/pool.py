"""A model as replicas: batches go to whichever is free, and come back when one dies."""

from __future__ import annotations

import statistics
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from emu2eval.engine.ahead import BATCHES
from emu2eval.engine.asked import Answered, Asked
from emu2eval.engine.backends.alike import unlike
from emu2eval.engine.backends.base import Answers, Batch, Ended, Event, HasRoom
from emu2eval.engine.backends.replica import ReplicaReport
from emu2eval.engine.backends.site import Call, ReplicaDied, Site
from emu2eval.errors import ModelError, ModelGone, UserError
from emu2eval.runs.record import ModelIdentity, RanOn
from emu2eval.types import Image, Response
from emu2eval.watch import ReplicasState

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

LOADS = 3
"""How often in a row a replica may fail to load before the others go on without it."""
DEADLY = 2
"""Replicas that a batch may end before its requests are asked one by one."""
MEDIANS = 20
"""After so many times the median batch without a sign, a replica is lost."""
PATIENCE = 600.0
"""Seconds that a replica may be silent at least."""
MOST_IMAGES = 4096
"""Images that are shared out at a time."""
CHUNK = 64
"""Images that a replica encodes in one call: a multiple of what an encoder takes at a time."""


@dataclass(frozen=True)
class Tell:
    """Told how the replicas get on. loading: before weights are read."""

    loading: Callable[[], None]
    state: Callable[[ReplicasState], None]
    note: Callable[[str], None]


@dataclass(frozen=True)
class Placing:
    """Where replicas are started, and how many."""

    site: Site
    count: int


@dataclass
class _Flight:
    """A batch, or one request of it, on its way. batch: of the run; deaths: replicas that it ended.

    suspect: it was with a replica that died, so that it flies alone: if that dies as well, it was the one.
    """

    batch: int
    asked: tuple[Asked, ...]
    deaths: int = 0
    suspect: bool = False
    begun: float = 0.0
    withdrawn: bool = False


@dataclass
class _Slot:
    """One of the replicas, whichever process it is now. heard: when it last gave a sign."""

    number: int
    process: Any = None
    report: ReplicaReport | None = None
    failed: int = 0
    gone: str | None = None
    flights: dict[int, _Flight] = field(default_factory=dict)
    heard: float = 0.0


class Replicas:
    """The backend of many processes.

    place: says where they are started, called with the first `load`. expected: gives what decides the
    answers, as the run's record has it; a replica that differs is not used.
    streams: the model takes requests one by one. settles: where it runs decides in what
    batches it is asked. patience: see `PATIENCE`.
    """

    def __init__(
        self,
        place: Callable[[], Placing],
        expected: Callable[[], ModelIdentity],
        tell: Tell,
        *,
        streams: bool = False,
        settles: bool = True,
        patience: float = PATIENCE,
    ):
        self._place = place
        self._placed: Placing | None = None
        self._slots: list[_Slot] = []
        self._expected = expected
        self._tell = tell
        self._streams = streams
        self._settles = settles
        self._patience = patience
        self._calls: dict[Call, tuple[str, _Slot, int]] = {}
        self._again: deque[_Flight] = deque()
        self._events: deque[Event] = deque()
        self._parts: dict[int, int] = {}
        """Requests that are still under way of a batch that is asked one by one."""
        self._run = 0
        self._flown = 0
        self._seconds: deque[float] = deque(maxlen=101)
        self._versions: dict[str, str] | None = None
        self._ending = False

    # -- as a backend -----------------------------------------------------------------------------

    @property
    def loaded(self) -> bool:
        return any(slot.report is not None for slot in self._slots)

    def settle(self) -> None:
        if self._settles and self._placed is None:
            self._placed = self._place()

    def load(self) -> None:
        """Until one is up; the others follow while it works."""
        if self.loaded:
            return
        self._tell.loading()
        self._placed = placed = self._placed or self._place()
        self._slots = [_Slot(number) for number in range(1, placed.count + 1)]
        for slot in self._slots:
            self._start(slot)
        while not self.loaded:
            self._hear()

    def begin(self) -> None:
        self._run += 1
        self._ending = False
        self._again.clear()
        self._events.clear()
        self._parts.clear()

    def room(self, size: int) -> bool:
        return not self._again and self._free(size) is not None

    def submit(self, batch: Batch) -> None:
        self._deal(_Flight(batch.number, batch.asked))

    def end(self) -> None:
        self._ending = True
        for slot in self._up():
            self._site.call(slot.process, "end", self._run)

    def wait(self) -> Event:
        while not self._events:
            self._send_back()
            self._share()
            self._hear()
        return self._events.popleft()

    def stop(self, within: float) -> Iterator[Answers]:
        until = time.monotonic() + within
        self._again.clear()
        for slot in self._up():
            for number in list(slot.flights)[1:]:
                self._site.call(slot.process, "withdraw", self._run, number)
        while (left := until - time.monotonic()) > 0 and any(
            kind == "ask" for kind, _, _ in self._calls.values()
        ):
            try:
                self._hear(left, last=True)
            except UserError:
                return  # why the run is stopped is told already
            while self._events:
                event = self._events.popleft()
                if isinstance(event, Answers):
                    yield event

    @property
    def at_once(self) -> int:
        """Two chunks for each, and no more than a kill may cost."""
        count = self._placed.count if self._placed is not None else 1
        return min(2 * CHUNK * max(count, 8), MOST_IMAGES)

    def encode(self, images: Sequence[Image] | Sequence[str]) -> npt.NDArray[np.float32]:
        """Shared out in chunks, and put together in their order."""
        import numpy as np

        self.load()
        chunks = [images[i : i + CHUNK] for i in range(0, len(images), CHUNK)]
        found: dict[int, npt.NDArray[np.float32]] = {}
        left = deque(enumerate(chunks))
        busy: dict[Call, tuple[int, _Slot]] = {}
        deaths: Counter[int] = Counter()
        problem: UserError | None = None
        while left or busy:
            taken = {slot.number for _, slot in busy.values()}
            for slot in self._up():
                if left and slot.number not in taken:
                    number, chunk = left.popleft()
                    busy[self._site.call(slot.process, "encode", chunk)] = number, slot
            for call in self._site.wait([*busy, *self._calls], None):
                if call in self._calls:
                    self._heard(call)
                    continue
                number, slot = busy.pop(call)
                try:
                    found[number] = self._site.result(call)
                except (ReplicaDied, ModelGone) as died:
                    deaths[number] += 1
                    if deaths[number] > DEADLY:
                        raise ModelError(
                            f"each of the {deaths[number]} replicas that encoded the same "
                            f"{len(chunks[number])} images or texts died: {died}",
                            hint="see whether memory ran out there; what was encoded before is kept",
                        ) from None
                    if problem is None:
                        left.append((number, chunks[number]))
                    self._lost(slot, str(died))
                except UserError as error:
                    # Raised once all replicas are free: the next call would find them at work.
                    problem = problem or error
                    left.clear()
        if problem is not None:
            raise problem
        return np.concatenate([found[number] for number in range(len(chunks))])

    def ran_on(self, now: RanOn) -> RanOn:
        devices: dict[str, int] = {}
        reports = [slot.report for slot in self._slots if slot.report is not None]
        for report in reports:
            for name, count in report.devices.items():
                devices[name] = devices.get(name, 0) + count
        hosts = len({report.host for report in reports})
        return msgspec.structs.replace(
            now, replicas=len(self._slots), hosts=max(1, hosts), devices=devices
        )

    def close(self) -> None:
        for slot in self._slots:
            if slot.process is not None:
                self._site.kill(slot.process)
        self._slots, self._versions = [], None
        self._calls.clear()
        if self._placed is not None:
            self._placed.site.close()
        self._placed = None

    @property
    def _site(self) -> Site:
        assert self._placed is not None, "load() comes first"
        return self._placed.site

    # -- who is there -----------------------------------------------------------------------------

    def _up(self) -> list[_Slot]:
        return [slot for slot in self._slots if slot.report is not None]

    def _start(self, slot: _Slot) -> None:
        slot.report, slot.process = None, self._site.start()
        self._calls[self._site.call(slot.process, "load")] = "load", slot, 0
        self._told()

    def _told(self) -> None:
        gone = sum(slot.gone is not None for slot in self._slots)
        self._tell.state(ReplicasState(len(self._slots), len(self._up()), gone))

    def _loaded(self, slot: _Slot, report: ReplicaReport) -> None:
        differs = unlike(report, self._expected(), self._versions)
        if differs is not None:
            self._give_up(slot, f"on {report.host} differs from the run's model: {differs}")
            return
        self._versions = self._versions or report.versions
        slot.report, slot.failed, slot.heard = report, 0, time.monotonic()
        self._told()
        self._events.append(HasRoom())
        if self._ending:
            self._site.call(slot.process, "end", self._run)

    def _not_loaded(self, slot: _Slot, why: str) -> None:
        slot.failed += 1
        if slot.failed < LOADS:
            self._start(slot)
            return
        self._give_up(slot, f"could not be loaded in {LOADS} attempts: {why}")

    def _give_up(self, slot: _Slot, why: str) -> None:
        slot.gone = why
        self._site.kill(slot.process)
        slot.process = slot.report = None
        self._told()
        if all(each.gone is not None for each in self._slots):
            raise ModelError(
                f"no replica is left; the last one {why}",
                hint="fix that and run the same command again; what was answered is kept",
            )
        self._tell.note(f"replica {slot.number} {why}; the others go on without it")

    def _lost(self, slot: _Slot, why: str) -> None:
        """Its batches go back; the one it was busy with has a death on its account."""
        if slot.report is None:
            return
        host, flights = slot.report.host, list(slot.flights.values())
        slot.flights.clear()
        slot.report = None
        for call, (_, owner, _) in list(self._calls.items()):
            if owner is slot:
                del self._calls[call]
        if flights:
            flights[0].deaths += 1
        for flight in flights:
            flight.suspect = True
        for flight in reversed(flights):
            self._return(flight)
        count = sum(len(flight.asked) for flight in flights)
        again = f"; {count} requests are sent to others" if count else ""
        self._tell.note(
            f"replica {slot.number} on {host} was lost ({why}){again}; starting a new one"
        )
        self._site.kill(slot.process)
        self._start(slot)

    def _return(self, flight: _Flight) -> None:
        if flight.deaths == DEADLY and len(flight.asked) > 1:
            self._parts[flight.batch] = len(flight.asked)
            for asked in reversed(flight.asked):
                self._again.appendleft(_Flight(flight.batch, (asked,), DEADLY, suspect=True))
        elif flight.deaths > DEADLY:
            why = f"each of the {flight.deaths} replicas that were asked this died"
            response = Response(error=why)
            self._came(flight, [Answered(flight.asked[0].slot, response, 0.0)], Ended(0, 1))
        else:
            self._again.appendleft(flight)

    # -- batches ----------------------------------------------------------------------------------

    def _free(self, size: int, *, alone: bool = False) -> _Slot | None:
        """The least busy one that wants more. alone: one that has nothing to do."""
        free = [
            slot
            for slot in self._up()
            if len(slot.flights) < (1 if alone else self._depth(slot, size))
            and not any(flight.suspect for flight in slot.flights.values())
        ]
        return min(free, key=lambda slot: len(slot.flights), default=None)

    def _depth(self, slot: _Slot, size: int) -> int:
        """Batches that keep it busy: one that it answers, and as many as it can make ready meanwhile."""
        threads = slot.report.threads if slot.report is not None else 0
        return max(BATCHES + self._streams, 1 + -(-threads // max(1, size)))

    def _deal(self, flight: _Flight) -> None:
        slot = self._free(len(flight.asked))
        if slot is None:
            self._again.append(flight)
        else:
            self._fly(flight, slot)

    def _fly(self, flight: _Flight, slot: _Slot) -> None:
        if not slot.flights:
            slot.heard = time.monotonic()
        self._flown += 1
        flight.begun, flight.withdrawn = time.monotonic(), False
        slot.flights[self._flown] = flight
        batch = Batch(self._flown, flight.asked)
        call = self._site.call(slot.process, "ask", self._run, batch)
        self._calls[call] = "ask", slot, self._flown

    def _send_back(self) -> None:
        while self._again:
            flight = self._again[0]
            slot = self._free(len(flight.asked), alone=flight.suspect)
            if slot is None:
                return
            self._fly(self._again.popleft(), slot)

    def _share(self) -> None:
        """Towards the end, what one has not begun goes to another that has nothing to do."""
        idle = sum(not slot.flights for slot in self._up())
        for slot in sorted(self._up(), key=lambda slot: -len(slot.flights)):
            waiting = [(n, f) for n, f in list(slot.flights.items())[1:] if not f.withdrawn]
            if self._streams or not idle or not waiting or self._again:
                return
            number, flight = waiting[-1]
            flight.withdrawn = True
            self._site.call(slot.process, "withdraw", self._run, number)
            idle -= 1

    def _hear(self, timeout: float | None = None, *, last: bool = False) -> None:
        """Waits for something to happen. last: nobody who is lost is replaced."""
        limit = self._limit()
        ended = self._site.wait(list(self._calls), min(limit, timeout) if timeout else limit)
        for call in ended:
            if call in self._calls:
                self._heard(call, last=last)
        for slot in self._up() if not last else ():
            if self._silent(slot):
                self._lost(slot, f"no answer for {self._longest():,.0f} seconds")

    def _silent(self, slot: _Slot) -> bool:
        if not slot.flights or time.monotonic() - slot.heard <= self._longest():
            return False
        # It may be the driver that was stopped for so long, and what has come meanwhile is not heard yet.
        own = [call for call, (kind, of, _) in self._calls.items() if kind == "ask" and of is slot]
        return not self._site.wait(own, 0.0)

    def _longest(self) -> float:
        median = statistics.median(self._seconds) if self._seconds else 0.0
        return max(self._patience, MEDIANS * median)

    def _limit(self) -> float:
        """Seconds until the first may be lost."""
        now = time.monotonic()
        busy = [slot.heard - now for slot in self._up() if slot.flights]
        return max(0.1, min(busy, default=0.0) + self._longest() + 0.05)

    def _heard(self, call: Call, *, last: bool = False) -> None:
        kind, slot, number = self._calls.pop(call)
        try:
            result = self._site.result(call)
        except (ReplicaDied, UserError) as error:
            why = error.what if isinstance(error, UserError) else str(error)
            if last:
                slot.flights.pop(number, None)
            elif kind == "load":
                self._not_loaded(slot, why)
            elif isinstance(error, (ReplicaDied, ModelGone)):
                self._lost(slot, why)
            else:
                del slot.flights[number]  # nobody waits for it while the run is stopped
                raise
            return
        if kind == "load":
            self._loaded(slot, result)
            return
        flight = slot.flights.pop(number)
        now = time.monotonic()
        if result is None:
            self._again.append(flight)
            return
        self._seconds.append(now - max(slot.heard, flight.begun))
        slot.heard = now
        self._came(flight, result.answered, result.ended)

    def _came(self, flight: _Flight, answered: Sequence[Answered], ended: Ended) -> None:
        self._events.append(Answers(flight.batch, answered))
        if flight.batch in self._parts:
            self._parts[flight.batch] -= 1
            if self._parts[flight.batch]:
                return
            del self._parts[flight.batch]
        whole = Ended(flight.batch, ended.largest, ended.fits, ended.again)
        self._events.append(whole)
