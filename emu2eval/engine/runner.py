"""Asks what is not yet answered, in batches or as a stream, and stores each answer."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Literal

from emu2eval.adapters.base import Adapter, BatchRange, of_adapter
from emu2eval.engine.ahead import Ahead, reading_ahead
from emu2eval.engine.asking import Answered, Asker, why
from emu2eval.engine.checking import CheckedAhead
from emu2eval.engine.plan import Planned
from emu2eval.engine.work import Work
from emu2eval.errors import ImageError, ModelError
from emu2eval.runs.answers import Answer
from emu2eval.runs.store import RunStore
from emu2eval.types import Response
from emu2eval.watch import AskedAgain

WINDOW = 16
"""Batches that are looked at together, so that requests of like length share one."""

GIVE_UP_AFTER = 32
"""Failures in a row, without any answer before, after which the model is taken to be broken."""


@dataclass
class Tally:
    """asked: requests made now; kept: answered before; copied: equal to an answered one.

    failed: asked without an answer; refused: not asked, since the model cannot take one of their images.
    again: batches that failed and were asked again, by the type of what they raised. why: the first error.
    batch: how many requests were answered together at most; None where they are not asked in batches.
    """

    asked: int = 0
    kept: int = 0
    copied: int = 0
    failed: int = 0
    refused: int = 0
    again: dict[str, AskedAgain] = field(default_factory=dict)
    why: str | None = None
    batch: int | None = None

    def __add__(self, other: Tally) -> Tally:
        total = Tally(
            self.asked + other.asked,
            self.kept + other.kept,
            self.copied + other.copied,
            self.failed + other.failed,
            self.refused + other.refused,
            why=self.why or other.why,
        )
        for each in (*self.again.values(), *other.again.values()):
            total.note(each)
        return total

    def note(self, again: AskedAgain) -> None:
        """Counts batches that were asked again; of each type, what the first one said is kept."""
        known = self.again.get(again.error)
        self.again[again.error] = (
            again if known is None else replace(known, batches=known.batches + again.batches)
        )


class Loader:
    """Loads an adapter when the first request is about to be made, and not if none is."""

    def __init__(self, adapter: Adapter, tell: Callable[[], None]):
        self.adapter = adapter
        self.tell = tell
        self.loaded = False

    def __call__(self) -> None:
        if not self.loaded:
            if type(self.adapter).load is not Adapter.load:
                self.tell()
            with of_adapter(self.adapter):
                self.adapter.load()
            self.loaded = True

    def close(self) -> None:
        with of_adapter(self.adapter):
            self.adapter.close()
        self.loaded = False


def execute(
    work: Work,
    store: RunStore,
    *,
    load: Callable[[], None] | None = None,
    batch: int | Literal["auto"] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Tally:
    """Asks for every request that the store does not hold, and stores each answer.

    Requests are planned and checked ahead of asking them: as many as there is time for while the model is
    loaded, then a window at a time, or as an adapter that streams takes them. load: called once the first are
    checked, and not if nothing is to be asked. progress: called with the number of requests settled since
    the last call. Raises UserError; a PlanError for a request that the model cannot take comes before its
    window is asked, or once those under way are answered, and all that came is kept.
    """
    with reading_ahead(work.adapter) as ahead:
        return _execute(work, store, ahead, load=load, batch=batch, progress=progress)


def _execute(
    work: Work,
    store: RunStore,
    ahead: Ahead,
    *,
    load: Callable[[], None] | None,
    batch: int | Literal["auto"] | None,
    progress: Callable[[int], None] | None,
) -> Tally:
    tally = Tally()
    tell = progress or (lambda count: None)
    ready = load or work.adapter.load
    if batch is None:
        batch = work.adapter.limits.batch
    size = work.adapter.fit_batch() if batch == "auto" else BatchRange(batch)
    asker = Asker(work.adapter, size, tally.note)
    keeper = _Keeper(work, store, tally, tell)
    checked = CheckedAhead(work, store)
    pending = _pending(work, store, tally, tell, checked)
    if asker.streams:
        one = next(pending, None)
        if one is not None:
            checked.during(ready)
            coming = _Coming(chain([one], pending), keeper, ahead)
            keeper.keep(asker.ask_all(coming))
            coming.check()
        return tally
    fresh = (
        _by_length(work.adapter, [each for each in window if keeper.is_new(each)])
        for window in _windows(pending, lambda: asker.batch * WINDOW)
    )
    windows = filter(None, fresh)
    left, problem = next(windows, None), None
    if left:
        checked.during(ready)
    while left:
        following = None
        while left:
            group, left = left[: asker.batch], left[asker.batch :]
            if not left:
                # The next window is planned before this one's last batch is asked, so that its first images
                # are decoded meanwhile. What planning raises waits for that batch.
                try:
                    following = next(windows, None)
                except Exception as error:
                    problem = error
            soon = (left or following or [])[: ahead.far(asker.batch)]
            ahead.prepare([planned.request for planned in soon])
            keeper.keep(asker.ask_all(group))
            tally.batch = asker.largest or None
            if problem is not None:
                raise problem
        left = following
    return tally


class _Keeper:
    """Stores answers as they come, each for every request that equals the one that was asked."""

    def __init__(self, work: Work, store: RunStore, tally: Tally, tell: Callable[[int], None]):
        self._work = work
        self._store = store
        self._tally = tally
        self._tell = tell
        self._open: dict[str, list[Planned]] = {}

    def is_new(self, planned: Planned) -> bool:
        """Whether it is to be asked; no equal one is under way, which would answer it, too."""
        same = self._open.setdefault(planned.request.key, [])
        same.append(planned)
        return len(same) == 1

    def keep(self, answers: Generator[list[Answered]]) -> None:
        with closing(answers):
            for answered in answers:
                self._settle(answered)

    def _settle(self, answered: list[Answered]) -> None:
        tally = self._tally
        rows: list[tuple[int, Answer]] = []
        for planned, response, seconds in answered:
            tally.asked += 1
            tally.why = tally.why or response.error
            first = planned.answer(response, seconds, self._store)
            for same in self._open.pop(planned.request.key):
                twin = same.slot != planned.slot
                rows.append((same.slot, same.copy(first) if twin else first))
                tally.failed += response.error is not None
                tally.copied += twin
        self._store.append(rows)
        self._tell(len(rows))
        if tally.failed >= max(tally.asked, GIVE_UP_AFTER) and not tally.kept:
            raise ModelError(
                f"the first {tally.failed} requests all failed; the last one: {rows[-1][1].error}",
                where=self._work.name,
                hint="fix the model or its settings and run the same command again",
            )


class _Coming:
    """Requests for an adapter that takes them one by one. What planning raises only ends them: those that
    are under way are waited for, and `check` raises it then."""

    def __init__(self, pending: Iterator[Planned], keeper: _Keeper, ahead: Ahead):
        self._pending = pending
        self._keeper = keeper
        self._ahead = ahead
        self._problem: Exception | None = None

    def __iter__(self) -> Iterator[Planned]:
        try:
            for planned in self._pending:
                if self._keeper.is_new(planned):
                    self._ahead.prepare([planned.request])
                    yield planned
        except Exception as error:
            self._problem = error

    def check(self) -> None:
        if self._problem is not None:
            raise self._problem


def _pending(
    work: Work, store: RunStore, tally: Tally, tell: Callable[[int], None], checked: CheckedAhead
) -> Iterator[Planned]:
    """The requests still to be made; an answer to an equal request is copied instead."""
    holding = 0
    for planned in work.to_ask(store):
        if planned is None:
            holding += 1
            continue
        if holding:
            tally.kept += holding
            tell(holding)
            holding = 0
        key = planned.request.key
        if store.has(planned.slot, key):
            tally.kept += 1
            tell(1)
        elif (twin := store.twin(key)) is not None:
            store.append([(planned.slot, planned.copy(twin))])
            tally.copied += 1
            tell(1)
        else:
            try:
                if planned.slot not in checked:
                    work.check(planned)
            except ImageError as error:
                # An image that the model cannot take costs its own question; `ask` finds others so.
                answer = planned.answer(Response(error=why(error)), 0.0, store)
                store.append([(planned.slot, answer)])
                tally.refused += 1
                tally.why = tally.why or answer.error
                tell(1)
                continue
            yield planned
    if holding:
        tally.kept += holding
        tell(holding)


def _windows(planned: Iterator[Planned], size: Callable[[], int]) -> Iterator[list[Planned]]:
    window: list[Planned] = []
    for item in planned:
        window.append(item)
        if len(window) >= size():
            yield window
            window = []
    if window:
        yield window


def _by_length(adapter: Adapter, window: list[Planned]) -> list[Planned]:
    """Longest first: padding is least, and memory runs out at once or never."""
    with of_adapter(adapter):
        lengths = [adapter.positions(planned.request) for planned in window]
    if any(length is None for length in lengths):
        return window
    order = sorted(range(len(window)), key=lambda i: -(lengths[i] or 0))
    return [window[i] for i in order]
