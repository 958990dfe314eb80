"""Cuts what is still to be asked into batches.

Which requests are answered together decides the last bits of an answer, so batches are cut from the plan, not
from what happens to be missing: a window of it, longest prompts first. Then it does not matter how many
replicas there are, or how often a run was stopped. Only where a store holds answers of another extent, or of
batches of another size, are the missing ones packed together, so that nothing is asked twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from emu2eval.adapters.base import Adapter, BatchRange, of_adapter
from emu2eval.engine.asking import why
from emu2eval.engine.backends.base import Ended
from emu2eval.engine.checking import CheckedAhead
from emu2eval.engine.plan import Held, Planned
from emu2eval.engine.work import Work
from emu2eval.errors import ImageError
from emu2eval.runs.answers import Answer
from emu2eval.runs.store import RunStore
from emu2eval.types import Response, TextOutput

WINDOW = 16
"""Batches that are looked at together, so that requests of like length share one."""


class BatchSize:
    """How many requests make a batch. growing: larger ones are still tried."""

    def __init__(self, given: BatchRange):
        self.now = max(1, given.first)
        self._most = given.most

    @property
    def growing(self) -> bool:
        return self._most is not None

    def ended(self, asked: int, ended: Ended) -> None:
        """Doubled with each batch that fits, until one does not."""
        if self._most is None:
            return
        if ended.fits is not None:
            self.now, self._most = min(self.now, ended.fits), None
        elif asked == self.now:
            self.now = min(2 * self.now, self._most)
            if self.now == self._most:
                self._most = None


@dataclass
class Settled:
    """What is known of requests without asking: told as it is found.

    under_way: those that are asked or about to be, by their keys; the first is the one that is asked. failed:
    the slots of keys that were asked in vain.
    """

    store: RunStore
    kept: Callable[[int], None]
    copied: Callable[[Planned, Answer], None]
    refused: Callable[[Planned, Answer], None]
    under_way: dict[str, list[Planned]] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)

    def elsewhere(self, planned: Planned) -> bool:
        """Whether an equal request settles this one, so that it is not asked itself."""
        key = planned.request.key
        if (same := self.under_way.get(key)) is not None:
            same.append(planned)
            return True
        slot = self.failed.get(key)
        twin = self.store.twin(key) if slot is None else self.store.stored(slot)
        if twin is not None:
            self.copied(planned, twin)
        return twin is not None


class Cutting:
    """The batches of a run, each as the requests that are asked together.

    exact: batches are cut from the plan; else from what is missing. streams: requests are answered one by
    one, so that nothing is gained by their order.
    """

    def __init__(
        self,
        work: Work,
        settled: Settled,
        checked: CheckedAhead,
        size: BatchSize,
        *,
        exact: bool,
        streams: bool,
    ):
        self._work = work
        self._settled = settled
        self._checked = checked
        self._size = size
        self._exact = exact and not size.growing and not streams
        self._streams = streams

    def __iter__(self) -> Iterator[list[Planned]]:
        coming = _Coming(self._planned_windows() if self._exact else self._missing_windows())
        while (window := coming.take()) is not None:
            left = window if self._streams else by_length(self._work.adapter, window)
            while left:
                group, left = left[: self._size.now], left[self._size.now :]
                asked = self._asked(group) if self._exact else group
                if asked:
                    yield asked
                if not self._streams:
                    coming.plan()

    # -- from the plan ----------------------------------------------------------------------------

    def _planned_windows(self) -> Iterator[list[Planned] | None]:
        """Requests of the plan that are asked, or were, without those that others settle; see `_Coming`."""
        window: list[Planned | Held] = []
        for each in self._work.to_ask(self._settled.store):
            window.append(each)
            if len(window) >= self._size.now * WINDOW:
                yield self._own(window)
                window = []
            elif len(window) % self._size.now == 0:
                yield None
        if window:
            yield self._own(window)

    def _own(self, window: list[Planned | Held]) -> list[Planned]:
        store, settled = self._settled.store, self._settled
        if all(not isinstance(each, Planned) for each in window):
            settled.kept(len(window))
            return []
        found: list[Planned] = []
        for each in window:
            planned = each if isinstance(each, Planned) else each()
            if store.has(planned.slot, planned.request.key):
                settled.kept(1)
                if store.owns(planned.slot):
                    found.append(planned)
            elif not settled.elsewhere(planned) and self._taken(planned):
                settled.under_way[planned.request.key] = [planned]
                found.append(planned)
        return found

    def _asked(self, group: list[Planned]) -> list[Planned]:
        """What is asked of a batch: nothing where all is answered; all of it where it was broken off and the
        last bits show; else what is missing."""
        store = self._settled.store
        missing = [p for p in group if not store.has(p.slot, p.request.key)]
        broken = any(not store.failed(planned.slot) for planned in missing)
        shows = any(not isinstance(planned.request.output, TextOutput) for planned in group)
        return group if broken and shows else missing

    # -- from what is missing -----------------------------------------------------------------------

    def _missing_windows(self) -> Iterator[list[Planned] | None]:
        window: list[Planned] = []
        for planned in self._missing():
            window.append(planned)
            if len(window) >= self._size.now * (1 if self._streams else WINDOW):
                yield window
                window = []
            elif len(window) % self._size.now == 0:
                yield None
        if window:
            yield window

    def _missing(self) -> Iterator[Planned]:
        settled = self._settled
        holding = 0
        for planned in self._work.to_ask(settled.store):
            if not isinstance(planned, Planned):
                holding += 1
                continue
            if holding:
                settled.kept(holding)
                holding = 0
            key = planned.request.key
            if settled.store.has(planned.slot, key):
                settled.kept(1)
            elif not settled.elsewhere(planned) and self._taken(planned):
                settled.under_way[key] = [planned]
                yield planned
        if holding:
            settled.kept(holding)

    def _taken(self, planned: Planned) -> bool:
        """Whether the model can take it. Raises PlanError where it can never."""
        refused = self._refusal(planned)
        if refused is not None:
            self._settled.refused(planned, refused)
        return refused is None

    def _refusal(self, planned: Planned) -> Answer | None:
        """What is stored where the model cannot take it. Raises PlanError where it can never."""
        try:
            if planned.slot not in self._checked:
                self._work.check(planned)
        except ImageError as error:
            # An image that the model cannot take costs its own question; `ask` finds others so.
            return planned.answer(Response(error=why(error)), 0.0, self._settled.store)
        return None


class _Coming:
    """Windows, each planned while the one before is asked: whole, it would keep devices waiting.

    steps: yields each window when it is whole, and None whenever another batch of it is planned.
    """

    def __init__(self, steps: Iterator[list[Planned] | None]):
        self._steps = steps
        self._ready: list[Planned] | None = None
        self._problem: Exception | None = None

    def plan(self) -> None:
        """Another batch of the next window. What that raises is told when its turn comes."""
        if self._ready is not None or self._problem is not None:
            return
        try:
            self._ready = next(self._steps, None)
        except Exception as error:
            self._problem = error

    def take(self) -> list[Planned] | None:
        """The next window; None where there is none. Raises what planning it raised."""
        if self._problem is not None:
            raise self._problem
        ready, self._ready = self._ready, None
        return ready if ready is not None else next((w for w in self._steps if w is not None), None)


def by_length(adapter: Adapter, window: list[Planned]) -> list[Planned]:
    """Longest first: padding is least, and memory runs out at once or never."""
    with of_adapter(adapter):
        lengths = [adapter.positions(planned.request) for planned in window]
    if any(length is None for length in lengths):
        return window
    order = sorted(range(len(window)), key=lambda i: -(lengths[i] or 0))
    return [window[i] for i in order]
