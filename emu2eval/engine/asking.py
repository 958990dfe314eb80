"""Asks an adapter: all at once or as a stream, in halves when memory runs out, alone when a batch fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice

from emu2eval.adapters.base import Adapter, BatchRange
from emu2eval.adapters.thought import separated
from emu2eval.engine.plan import Planned
from emu2eval.errors import ImageError, ModelError, UserError
from emu2eval.types import Image, Mark, Output, Request, Response
from emu2eval.watch import AskedAgain

Answered = tuple[Planned, Response, float]
"""A request, its response, and the seconds it took."""


class Asker:
    """Asks an adapter for a batch, or for its halves or single requests where it fails.

    size: of a batch; where a larger one is to be tried, it is doubled with each that fits. again: told of
    each batch that is asked again. largest: how many were answered together at most.
    """

    def __init__(self, adapter: Adapter, size: BatchRange, again: Callable[[AskedAgain], None]):
        self.adapter = adapter
        self.batch = max(1, size.first)
        self.largest = 0
        self._most = size.most
        self.streams = type(adapter).stream is not Adapter.stream
        self._again = again

    def ask_all(self, group: Iterable[Planned]) -> Generator[list[Answered]]:
        """As `ask`; of those that have a first question that is asked before, and may settle them."""
        whole: dict[int, Planned] = {}
        open_: list[Planned] = []

        def first(planned: Planned) -> Planned:
            if planned.first is None:
                return planned
            whole[planned.slot] = planned
            return replace(planned, request=planned.first.request, first=None)

        order = self._mixed if self.streams else self._firsts
        for answered in self.ask(map(first, order(group, open_))):
            settled: list[Answered] = []
            for asked, response, seconds in answered:
                planned = whole.pop(asked.slot, None)
                if planned is None or planned.first is None:
                    settled.append((asked, response, seconds))
                    continue
                instead = planned.first.settled(response)
                if instead is None:
                    open_.append(replace(planned, first=None))
                else:
                    settled.append((planned, instead, seconds))
            if settled:
                yield settled
        if open_:
            yield from self.ask(open_)

    def _firsts(self, group: Iterable[Planned], others: list[Planned]) -> Iterator[Planned]:
        """Those with a first question; a batch holds one kind of output."""
        for planned in group:
            if planned.first is not None:
                yield planned
            else:
                others.append(planned)

    def _mixed(self, group: Iterable[Planned], others: list[Planned]) -> Iterator[Planned]:
        """Those whose first question did not settle them are asked as soon as that is known."""
        for planned in group:
            while others:
                yield others.pop(0)
            yield planned

    def ask(self, group: Iterable[Planned]) -> Generator[list[Answered]]:
        """Answers in the portions in which the adapter gives them."""
        left = _Left(group)
        while not left.ended:
            missing: dict[int, Planned] = {}
            failed: _Failed | None = None
            try:
                if self.streams:
                    yield from self._streamed(left, missing)
                else:
                    yield from self._together(left, missing)
            except Exception as error:
                if isinstance(error, UserError) and not isinstance(error, ImageError):
                    raise
                # Whatever a model or a plug-in raises costs the requests it was raised for, no more. So
                # does a video that cannot be decoded, which shows only now.
                failed = _Failed.of(error)
            # Only now, as the error's frames hold what the batch had in memory.
            if failed is not None:
                if not missing:
                    missing.update(enumerate(islice(left, 1)))
                yield from self._after(failed, list(missing.values()))

    def _together(self, left: _Left, missing: dict[int, Planned]) -> Iterator[list[Answered]]:
        group = list(left)
        if not group:
            return
        missing.update(enumerate(group))
        started = time.perf_counter()
        responses = list(self.adapter.answer([planned.request for planned in group]))
        if len(responses) != len(group):
            raise self._miscounted(len(responses), len(group))
        seconds = (time.perf_counter() - started) / len(group)
        missing.clear()
        self.largest = max(self.largest, len(group))
        if self._most is not None and len(group) == self.batch:
            self.batch = max(self.batch, min(2 * self.batch, self._most))
        yield [
            (planned, checked(response, planned.request.output), seconds)
            for planned, response in zip(group, responses, strict=True)
        ]

    def _streamed(self, left: _Left, missing: dict[int, Planned]) -> Iterator[list[Answered]]:
        given = 0

        def requests() -> Iterator[Request]:
            nonlocal given
            for planned in left:
                missing[given] = planned
                given += 1
                yield planned.request

        with closing(self.adapter.stream(requests())) as answers:
            started = time.perf_counter()
            for place, response in answers:
                if place not in missing:
                    raise self._miscounted(given - len(missing) + 1, given)
                now = time.perf_counter()
                planned = missing.pop(place)
                yield [(planned, checked(response, planned.request.output), now - started)]
                started = now
        if missing or not (given or left.ended):
            raise self._miscounted(given - len(missing), given)

    def _miscounted(self, given: int, asked: int) -> ModelError:
        return ModelError(
            f"{type(self.adapter).__name__}.answer returned {given} responses for {asked} requests",
            hint="an adapter must return one response per request, in order; see `emu2eval check`",
        )

    def _after(self, failed: _Failed, group: Sequence[Planned]) -> Iterator[list[Answered]]:
        if len(group) == 1:
            yield [(group[0], Response(error=failed.why), 0.0)]
            return
        if not (failed.out_of_memory and self._most is not None):
            # Where a size is tried, that it does not fit is no news.
            self._again(AskedAgain(failed.name, failed.why, 1))
        size = 1
        if failed.out_of_memory:
            size = (len(group) + 1) // 2
            # What did not fit now will not fit later either.
            self.batch, self._most = min(self.batch, size), None
        for start in range(0, len(group), size):
            yield from self.ask(group[start : start + size])


@dataclass(frozen=True, slots=True)
class _Failed:
    """What is kept of an exception. name: of its type."""

    name: str
    why: str
    out_of_memory: bool

    @classmethod
    def of(cls, error: Exception) -> _Failed:
        return cls(type(error).__name__, why(error), _out_of_memory(error))


class _Left:
    """Requests still to be taken, by one reader after the other."""

    def __init__(self, group: Iterable[Planned]):
        self._coming = iter(group)
        self.ended = False

    def __iter__(self) -> _Left:
        return self

    def __next__(self) -> Planned:
        try:
            return next(self._coming)
        except StopIteration:
            self.ended = True
            raise


def why(error: Exception) -> str:
    """The error of a response, in one line."""
    if isinstance(error, UserError):
        return f"{error.what} ({error.where})"
    return f"{type(error).__name__}: {error}"


def _out_of_memory(error: Exception) -> bool:
    # By name, so that torch need not be imported to recognise its error.
    return isinstance(error, MemoryError) or (
        type(error).__name__ == "OutOfMemoryError" or "out of memory" in str(error).lower()
    )


def checked(response: Response, output: Output) -> Response:
    """The response as it is stored; an error where it is not what was asked for."""
    if not isinstance(response, Response):
        return Response(error=f"the adapter returned {type(response).__name__}, not a Response")
    for name, kind in _KINDS.items():
        value = getattr(response, name)
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            return Response(error=f"the adapter returned a response with {name} = {value!r:.80}")
    for name, each in (("log_probs", (int, float)), ("images", Image), ("marks", Mark)):
        if any(not isinstance(item, each) for item in getattr(response, name) or ()):
            return Response(error=f"the adapter returned a response with wrong types in {name}")
    if response.error is None and response.thought is None:
        response = separated(response)  # an adapter that knows nothing of thoughts need not
    return response if response.error is not None else output.kept(response)


_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("text", "raw", "thought", "ended", "error"), (str,)),
    **dict.fromkeys(("tokens_in", "tokens_out"), (int,)),
    **dict.fromkeys(("log_probs", "images", "marks"), (tuple, list)),
}
"""What the fields of a response are, which a plug-in may get wrong."""
