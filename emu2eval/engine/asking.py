"""Asks an adapter: all at once or as a stream, in halves when memory runs out, alone when a batch fails."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

from emu2eval.adapters.base import Adapter
from emu2eval.adapters.thought import separated
from emu2eval.engine.asked import Answered, Asked
from emu2eval.errors import ImageError, ModelError, UserError
from emu2eval.types import Image, Mark, Output, Request, Response
from emu2eval.watch import AskedAgain


class Asker:
    """Asks an adapter for a batch, or for its halves or single requests where it fails.

    most: how many are asked together at most, None = as many as a batch has; less once memory ran out.
    largest: how many were answered together at most. again: of each kind of failure, batches asked again.
    """

    def __init__(self, adapter: Adapter):
        self.adapter = adapter
        self.streams = streams(adapter)
        self.most: int | None = None
        self.largest = 0
        self._again: list[AskedAgain] = []

    def again(self) -> tuple[AskedAgain, ...]:
        """The batches that were asked again since it was called last."""
        told, self._again = tuple(self._again), []
        return told

    def ask_all(self, group: Iterable[Asked]) -> Generator[list[Answered]]:
        """As `ask`; of those that have a first question that is asked before, and may settle them."""
        whole: dict[int, Asked] = {}
        open_: list[Asked] = []

        def first(asked: Asked) -> Asked:
            if asked.first is None:
                return asked
            whole[asked.slot] = asked
            return Asked(asked.slot, asked.first.request)

        order = self._mixed if self.streams else self._firsts
        for answered in self.ask(map(first, order(group, open_))):
            settled: list[Answered] = []
            for slot, response, seconds in answered:
                asked = whole.pop(slot, None)
                if asked is None or asked.first is None:
                    settled.append(Answered(slot, response, seconds))
                    continue
                instead = asked.first.settled(response)
                if instead is None:
                    open_.append(Asked(slot, asked.request))
                else:
                    settled.append(Answered(slot, instead, seconds))
            if settled:
                yield settled
        if open_:
            yield from self.ask(open_)

    def _firsts(self, group: Iterable[Asked], others: list[Asked]) -> Iterator[Asked]:
        """Those with a first question; a batch holds one kind of output."""
        for asked in group:
            if asked.first is not None:
                yield asked
            else:
                others.append(asked)

    def _mixed(self, group: Iterable[Asked], others: list[Asked]) -> Iterator[Asked]:
        """Those whose first question did not settle them are asked as soon as that is known."""
        for asked in group:
            while others:
                yield others.pop(0)
            yield asked

    def ask(self, group: Iterable[Asked]) -> Generator[list[Answered]]:
        """Answers in the portions in which the adapter gives them."""
        left = _Left(group)
        while not left.ended:
            missing: dict[int, Asked] = {}
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

    def _together(self, left: _Left, missing: dict[int, Asked]) -> Iterator[list[Answered]]:
        while group := list(islice(left, self.most)):
            missing.update(enumerate(group))
            started = time.perf_counter()
            responses = list(self.adapter.answer([asked.request for asked in group]))
            if len(responses) != len(group):
                raise self._miscounted(len(responses), len(group))
            seconds = (time.perf_counter() - started) / len(group)
            missing.clear()
            self.largest = max(self.largest, len(group))
            yield [
                Answered(asked.slot, checked(response, asked.request.output), seconds)
                for asked, response in zip(group, responses, strict=True)
            ]

    def _streamed(self, left: _Left, missing: dict[int, Asked]) -> Iterator[list[Answered]]:
        given = 0

        def requests() -> Iterator[Request]:
            nonlocal given
            for asked in left:
                missing[given] = asked
                given += 1
                yield asked.request

        with closing(self.adapter.stream(requests())) as answers:
            started = time.perf_counter()
            for place, response in answers:
                if place not in missing:
                    raise self._miscounted(given - len(missing) + 1, given)
                now = time.perf_counter()
                asked = missing.pop(place)
                response = checked(response, asked.request.output)
                yield [Answered(asked.slot, response, now - started)]
                started = now
        if missing or not (given or left.ended):
            raise self._miscounted(given - len(missing), given)

    def _miscounted(self, given: int, asked: int) -> ModelError:
        return ModelError(
            f"{type(self.adapter).__name__}.answer returned {given} responses for {asked} requests",
            hint="an adapter must return one response per request, in order; see `emu2eval check`",
        )

    def _after(self, failed: _Failed, group: Sequence[Asked]) -> Iterator[list[Answered]]:
        if len(group) == 1:
            yield [Answered(group[0].slot, Response(error=failed.why), 0.0)]
            return
        self._again.append(AskedAgain(failed.name, failed.why, 1))
        size = 1
        if failed.out_of_memory:
            size = (len(group) + 1) // 2
            # What did not fit now will not fit later either.
            self.most = size if self.most is None else min(self.most, size)
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

    def __init__(self, group: Iterable[Asked]):
        self._coming = iter(group)
        self.ended = False

    def __iter__(self) -> _Left:
        return self

    def __next__(self) -> Asked:
        try:
            return next(self._coming)
        except StopIteration:
            self.ended = True
            raise


def streams(adapter: Adapter) -> bool:
    """Whether it gives answers one by one, and takes requests so."""
    return type(adapter).stream is not Adapter.stream


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
