"""Deals batches to a backend as it has room for them, and stores each answer as it comes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from emu2eval.adapters.base import Adapter, BatchRange
from emu2eval.engine.asked import Answered
from emu2eval.engine.asking import streams, why
from emu2eval.engine.backends.base import GRACE, Answers, Backend, Batch, Ended
from emu2eval.engine.backends.here import Here
from emu2eval.engine.checking import CheckedAhead
from emu2eval.engine.cutting import BatchSize, Cutting, Settled
from emu2eval.engine.plan import Planned
from emu2eval.engine.work import Work
from emu2eval.errors import ImageError, ModelError, StoreError
from emu2eval.runs.answers import Answer
from emu2eval.runs.store import RunStore
from emu2eval.types import Response
from emu2eval.watch import AskedAgain

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


def execute(
    work: Work,
    store: RunStore,
    backend: Backend | None = None,
    *,
    ready: Callable[[], None] | None = None,
    size: BatchSize | None = None,
    exact: bool = True,
    progress: Callable[[int], None] | None = None,
    stopping: Callable[[float], None] | None = None,
    cut: Callable[..., Cutting] = Cutting,
) -> Tally:
    """Asks for every request that the store does not hold, and stores each answer.

    backend: whoever runs the work's model; None = this process, for this once. Requests are planned and
    checked ahead of asking them: as many as there is time for while the model is loaded, then as a device has
    room. ready: loads the backend, called once the first are checked, and not if nothing is to be asked.
    exact: see `cutting`; cut: another way of cutting. progress: called with the number of requests settled
    since the last call; stopping: with the seconds for which a run that the user stops waits for what is
    under way.

    Raises UserError; a PlanError for a request that the model cannot take comes once those under way are
    answered, and all that came is kept, as after a KeyboardInterrupt what comes within `GRACE` seconds.
    """
    own = backend is None
    runs = backend if backend is not None else Here(work.adapter, lambda: None)
    try:
        size = size or batch_size(work.adapter)
        dealing = _Dealing(work, store, runs, size, exact, progress, stopping, cut)
        return dealing.deal(ready or runs.load)
    finally:
        if own:
            runs.close()


def batch_size(adapter: Adapter, asked: int | Literal["auto"] | None = None) -> BatchSize:
    """asked: as `--batch` has it. Requests of an adapter that streams are only handed over together."""
    if streams(adapter):
        return BatchSize(BatchRange(adapter.limits.batch))
    if asked is None:
        return BatchSize(adapter.usual_batch())
    return BatchSize(adapter.fit_batch() if asked == "auto" else BatchRange(asked))


class _Dealing:
    """One run: from the plan to the backend, and from there to the store."""

    def __init__(
        self,
        work: Work,
        store: RunStore,
        backend: Backend,
        size: BatchSize,
        exact: bool,
        progress: Callable[[int], None] | None,
        stopping: Callable[[float], None] | None,
        cut: Callable[..., Cutting],
    ):
        self._backend = backend
        self._size = size
        self._stopping = stopping or (lambda seconds: None)
        self._tally = Tally()
        self._keeper = _Keeper(work.name, store, self._tally, progress or (lambda count: None))
        self._checked = CheckedAhead(work, store)
        self._streamed = streams(work.adapter)
        settled = self._keeper.settled
        cutting = cut(work, settled, self._checked, size, exact=exact, streams=self._streamed)
        self._groups = iter(cutting)
        self._under_way: dict[int, int] = {}
        """How many requests of each batch that is under way were asked."""
        self._count = 0
        self._coming: list[list[Planned]] = []
        self._planned = False
        """Whether all is planned."""
        self._problem: Exception | None = None

    def deal(self, ready: Callable[[], None]) -> Tally:
        if not self._look_ahead():
            return self._tally
        self._checked.during(ready)
        self._backend.begin()
        try:
            while True:
                while self._room() and self._look_ahead():
                    self._submit(self._coming.pop())
                if self._under_way and self._size.growing:
                    pass  # the next is cut by how this one does
                elif not self._look_ahead() and not self._under_way:
                    break
                # Where nothing is under way and something is planned, room comes with the next replica.
                self._hear()
        except BaseException as error:
            # What cannot be stored need not be waited for.
            within = 0.0 if isinstance(error, StoreError) else GRACE
            if isinstance(error, KeyboardInterrupt) and self._under_way:
                self._stopping(within)
            for answers in self._backend.stop(within):
                self._keeper.keep(answers.answered, last=True)
            raise
        if self._problem is not None:
            raise self._problem
        return self._tally

    def _room(self) -> bool:
        if self._size.growing and self._under_way:
            return False  # the next size depends on how this batch does
        return self._backend.room(self._size.now)

    def _look_ahead(self) -> bool:
        """Plans the next batch, if that is not done yet; False where there is none. What planning raises
        waits until what is under way has come, or is raised where nothing is."""
        if self._coming or self._planned:
            return bool(self._coming)
        try:
            group = next(self._groups, None)
        except Exception as error:
            if not self._count:
                raise
            self._problem, group = error, None
        if group is not None:
            self._coming.append(group)
            return True
        self._planned = True
        if self._count:
            self._backend.end()
        return False

    def _submit(self, group: Sequence[Planned]) -> None:
        self._keeper.expect(group)
        batch = Batch(self._count, tuple(planned.asked for planned in group))
        self._under_way[batch.number] = len(group)
        self._count += 1
        self._backend.submit(batch)

    def _hear(self) -> None:
        event = self._backend.wait()
        if isinstance(event, Answers):
            self._keeper.keep(event.answered)
        elif isinstance(event, Ended):
            asked = self._under_way.pop(event.batch)
            if not (self._size.growing and event.fits is not None):
                # Where a size is tried, that it does not fit is no news.
                for again in event.again:
                    self._tally.note(again)
            self._size.ended(asked, event)
            if not self._streamed:
                self._tally.batch = max(event.largest, self._tally.batch or 0) or None


class _Keeper:
    """Stores answers as they come, each for every request that equals the one that was asked."""

    def __init__(self, name: str, store: RunStore, tally: Tally, tell: Callable[[int], None]):
        self._name = name
        self._store = store
        self._tally = tally
        self._tell = tell
        self._expected: dict[int, Planned] = {}
        self._in_vain = 0
        """Requests that were asked and failed, each once, however many equal it."""
        self.settled = Settled(store, self._kept, self._copied, self._refused)

    def expect(self, group: Sequence[Planned]) -> None:
        """These are asked now. One that is only there to make its batch whole is not stored again."""
        under_way = self.settled.under_way
        for planned in group:
            if (same := under_way.get(planned.request.key)) and same[0] is planned:
                self._expected[planned.slot] = planned

    def keep(self, answered: Sequence[Answered], *, last: bool = False) -> None:
        """last: of a run that is stopped, whose answers say no more of the model."""
        tally = self._tally
        rows: list[tuple[int, Answer]] = []
        for slot, response, seconds in answered:
            tally.asked += 1
            planned = self._expected.pop(slot, None)
            if planned is None:
                continue
            try:
                first = planned.answer(response, seconds, self._store)
            except ImageError as error:
                # One that the model drew, and that nobody can open, costs its own question.
                response = Response(error=f"in the response, {why(error)}")
                first = planned.answer(response, seconds, self._store)
            tally.why = tally.why or response.error
            key = planned.request.key
            if response.error is not None:
                self.settled.failed[key] = slot
                self._in_vain += 1
            for same in self.settled.under_way.pop(key):
                twin = same is not planned
                rows.append((same.slot, same.copy(first) if twin else first))
                tally.failed += response.error is not None
                tally.copied += twin
        if not rows:
            return
        self._store.append(rows)
        self._tell(len(rows))
        if not last and self._in_vain >= max(tally.asked, GIVE_UP_AFTER) and not tally.kept:
            raise ModelError(
                f"the first {self._in_vain} requests all failed; the last one: {rows[-1][1].error}",
                where=self._name,
                hint="fix the model or its settings and run the same command again",
            )

    def _kept(self, count: int) -> None:
        self._tally.kept += count
        self._tell(count)

    def _copied(self, planned: Planned, twin: Answer) -> None:
        self._store.append([(planned.slot, planned.copy(twin))])
        self._tally.copied += 1
        self._tally.failed += twin.error is not None
        self._tell(1)

    def _refused(self, planned: Planned, answer: Answer) -> None:
        self._store.append([(planned.slot, answer)])
        self._tally.refused += 1
        self._tally.why = self._tally.why or answer.error
        self._tell(1)
