"""Asks what is not yet answered: in batches, in halves when memory runs out, alone when a batch fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Protocol

from emu2eval.adapters.base import Adapter, of_adapter
from emu2eval.adapters.thought import separated
from emu2eval.engine.ahead import BATCHES, Ahead, reading_ahead
from emu2eval.engine.plan import Planned
from emu2eval.errors import ImageError, ModelError, UserError
from emu2eval.runs.answers import Answer
from emu2eval.runs.store import RunStore
from emu2eval.types import Image, Mark, Output, Response
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
    """

    asked: int = 0
    kept: int = 0
    copied: int = 0
    failed: int = 0
    refused: int = 0
    again: dict[str, AskedAgain] = field(default_factory=dict)
    why: str | None = None

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


class Work(Protocol):
    """Requests to be made of one model: a plan, or what a judge is asked."""

    @property
    def adapter(self) -> Adapter: ...
    @property
    def name(self) -> str:
        """Of the model."""
        ...

    def __iter__(self) -> Iterator[Planned]: ...
    def check(self, planned: Planned) -> None: ...


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
    batch: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Tally:
    """Asks for every request that the store does not hold, and stores each answer.

    Requests are planned and checked a window at a time, ahead of asking them. load: called once the first
    window is checked, and not if nothing is to be asked.
    progress: called with the number of requests settled since the last call. Raises UserError; a PlanError
    for a request that the model cannot take comes before its window is asked, and all that came is kept.
    """
    with reading_ahead(work.adapter) as ahead:
        return _execute(work, store, ahead, load=load, batch=batch, progress=progress)


def _execute(
    work: Work,
    store: RunStore,
    ahead: Ahead,
    *,
    load: Callable[[], None] | None,
    batch: int | None,
    progress: Callable[[int], None] | None,
) -> Tally:
    tally = Tally()
    tell = progress or (lambda count: None)
    ready = load or work.adapter.load
    asker = _Asker(work.adapter, batch or work.adapter.limits.batch, tally)
    for window in _windows(_pending(work, store, tally, tell), asker.batch * WINDOW):
        if not tally.asked:
            ready()
        # Equal requests of a window are asked once.
        twins: dict[str, list[Planned]] = {}
        for planned in window:
            twins.setdefault(planned.request.key, []).append(planned)
        left = _by_length(work.adapter, [same[0] for same in twins.values()])
        while left:
            group, left = left[: asker.batch], left[asker.batch :]
            ahead.prepare([planned.request for planned in left[: asker.batch * BATCHES]])
            with closing(asker.ask_all(group)) as answers:
                for answered in answers:
                    rows: list[tuple[int, Answer]] = []
                    for planned, response, seconds in answered:
                        tally.asked += 1
                        tally.why = tally.why or response.error
                        first = planned.answer(response, seconds, store)
                        for same in twins[planned.request.key]:
                            rows.append((same.slot, first if same is planned else same.copy(first)))
                            tally.failed += response.error is not None
                            tally.copied += same is not planned
                    store.append(rows)
                    tell(len(rows))
                    if tally.failed >= max(tally.asked, GIVE_UP_AFTER) and not tally.kept:
                        raise ModelError(
                            f"the first {tally.failed} requests all failed; the last one: "
                            f"{rows[-1][1].error}",
                            where=work.name,
                            hint="fix the model or its settings and run the same command again",
                        )
    return tally


def _pending(
    work: Work, store: RunStore, tally: Tally, tell: Callable[[int], None]
) -> Iterator[Planned]:
    """The requests still to be made; an answer to an equal request is copied instead."""
    for planned in work:
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
                work.check(planned)
            except ImageError as error:
                # An image that the model cannot take costs its own question; `ask` finds others so.
                answer = planned.answer(Response(error=_why(error)), 0.0, store)
                store.append([(planned.slot, answer)])
                tally.refused += 1
                tally.why = tally.why or answer.error
                tell(1)
                continue
            yield planned


def _windows(planned: Iterator[Planned], size: int) -> Iterator[list[Planned]]:
    window: list[Planned] = []
    for item in planned:
        window.append(item)
        if len(window) == size:
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


Answered = tuple[Planned, Response, float]
"""A request, its response, and the seconds it took."""


class _Asker:
    """Asks an adapter for a batch, or for its halves or single requests where it fails, which is tallied."""

    def __init__(self, adapter: Adapter, batch: int, tally: Tally):
        self.adapter = adapter
        self.batch = max(1, batch)
        self.tally = tally

    def ask_all(self, group: Sequence[Planned]) -> Generator[list[Answered]]:
        """As `ask`; of those that have a first question that is asked before, and may settle them."""
        whole = {planned.slot: planned for planned in group if planned.first is not None}
        open_ = [planned for planned in group if planned.first is None]
        firsts = [
            replace(planned, request=planned.first.request, first=None)
            for planned in whole.values()
            if planned.first is not None
        ]
        for answered in self.ask(firsts) if firsts else ():
            settled: list[Answered] = []
            for asked, response, seconds in answered:
                planned = whole[asked.slot]
                assert planned.first is not None
                instead = planned.first.settled(response)
                if instead is None:
                    open_.append(planned)
                else:
                    settled.append((planned, instead, seconds))
            if settled:
                yield settled
        if open_:
            yield from self.ask(open_)

    def ask(self, group: Sequence[Planned]) -> Generator[list[Answered]]:
        """Answers in the portions in which the adapter gives them."""
        missing = dict(enumerate(group))
        streams = type(self.adapter).stream is not Adapter.stream
        portions = self._streamed(missing) if streams else self._together(missing)
        try:
            yield from portions
        except Exception as error:
            if isinstance(error, UserError) and not isinstance(error, ImageError):
                raise
            # Whatever a model or a plug-in raises costs the requests it was raised for, no more. So does a
            # video that cannot be decoded, which shows only now.
            yield from self._after(error, list(missing.values()))

    def _together(self, missing: dict[int, Planned]) -> Iterator[list[Answered]]:
        started = time.perf_counter()
        group = list(missing.values())
        responses = list(self.adapter.answer([planned.request for planned in group]))
        if len(responses) != len(group):
            raise self._miscounted(len(responses), len(group))
        seconds = (time.perf_counter() - started) / len(group)
        missing.clear()
        yield [
            (planned, _checked(response, planned.request.output), seconds)
            for planned, response in zip(group, responses, strict=True)
        ]

    def _streamed(self, missing: dict[int, Planned]) -> Iterator[list[Answered]]:
        asked = len(missing)
        with closing(self.adapter.stream([p.request for p in missing.values()])) as answers:
            started = time.perf_counter()
            for place, response in answers:
                if place not in missing:
                    raise self._miscounted(asked - len(missing) + 1, asked)
                now = time.perf_counter()
                planned = missing.pop(place)
                yield [(planned, _checked(response, planned.request.output), now - started)]
                started = now
        if missing:
            raise self._miscounted(asked - len(missing), asked)

    def _miscounted(self, given: int, asked: int) -> ModelError:
        return ModelError(
            f"{type(self.adapter).__name__}.answer gave {given} responses for {asked} requests",
            hint="an adapter gives one response a request, in order; see `emu2eval check`",
        )

    def _after(self, error: Exception, group: Sequence[Planned]) -> Iterator[list[Answered]]:
        if len(group) == 1:
            yield [(group[0], Response(error=_why(error)), 0.0)]
            return
        self.tally.note(AskedAgain(type(error).__name__, _why(error), 1))
        size = 1
        if _out_of_memory(error):
            size = (len(group) + 1) // 2
            # What did not fit now will not fit later either.
            self.batch = min(self.batch, size)
        for start in range(0, len(group), size):
            yield from self.ask(group[start : start + size])


def _why(error: Exception) -> str:
    """The error of a response, in one line."""
    if isinstance(error, UserError):
        return f"{error.what} ({error.where})"
    return f"{type(error).__name__}: {error}"


def _out_of_memory(error: Exception) -> bool:
    # By name, so that torch need not be imported to recognise its error.
    return isinstance(error, MemoryError) or (
        type(error).__name__ == "OutOfMemoryError" or "out of memory" in str(error).lower()
    )


def _checked(response: Response, output: Output) -> Response:
    """The response as it is stored; an error where it is not what was asked for."""
    if not isinstance(response, Response):
        return Response(error=f"the adapter gave no Response but {type(response).__name__}")
    for name, kind in _KINDS.items():
        value = getattr(response, name)
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            return Response(error=f"the adapter gave a response whose {name} is {value!r:.80}")
    for name, each in (("log_probs", (int, float)), ("images", Image), ("marks", Mark)):
        if any(not isinstance(item, each) for item in getattr(response, name) or ()):
            return Response(error=f"the adapter gave a response whose {name} hold something else")
    if response.error is None and response.thought is None:
        response = separated(response)  # an adapter that knows nothing of thoughts need not
    return response if response.error is not None else output.kept(response)


_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("text", "raw", "thought", "ended", "error"), (str,)),
    **dict.fromkeys(("tokens_in", "tokens_out"), (int,)),
    **dict.fromkeys(("log_probs", "images", "marks"), (tuple, list)),
}
"""What the fields of a response are, which a plug-in may get wrong."""
