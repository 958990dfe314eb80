"""What a model is asked, without anything of the run it is asked for; small, and the same on any machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from emu2eval.types import Mark, Output, Prompt, Request, Response, Turn

FIRST_SAID = Mark("first")
"""Of an answer that follows from what was asked first."""


@dataclass(frozen=True, slots=True)
class First:
    """A request whose likeliest choice decides whether another is made. answers: choice -> what is then
    answered in its place."""

    request: Request
    choices: tuple[str, ...]
    answers: Mapping[str, str]

    def settled(self, response: Response) -> Response | None:
        """The response to the other request, or None where that has to be made."""
        if response.error is not None or response.log_probs is None:
            return replace(response, error=f"first question: {response.error}")
        best = max(range(len(self.choices)), key=response.log_probs.__getitem__)
        answer = self.answers.get(self.choices[best])
        if answer is None:
            return None
        return Response(text=answer, raw=self.choices[best], marks=(*response.marks, FIRST_SAID))


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, the slot that its answer fills, and what is asked before."""

    slot: int
    request: Request
    first: First | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """As plain tuples: dataclasses would be a third of what a request costs a driver."""
        first = self.first
        before = first and (_told(first.request), first.choices, first.answers)
        return _arrived, (self.slot, _told(self.request), before)


def _told(request: Request) -> tuple[Any, ...]:
    prompt = request.prompt
    turns = tuple((turn.ask, turn.reply) for turn in prompt.turns)
    told = (prompt.query, turns, prompt.system, prompt.lead, prompt.separator, prompt.opening)
    return request.key, told, request.output


def _request(key: str, told: tuple[Any, ...], output: Output) -> Request:
    query, turns, *how = told
    return Request(key, Prompt(query, tuple(Turn(*turn) for turn in turns), *how), output)


def _arrived(slot: int, told: tuple[Any, ...], before: tuple[Any, ...] | None) -> Asked:
    first = First(_request(*before[0]), *before[1:]) if before else None
    return Asked(slot, _request(*told), first)


class Answered(NamedTuple):
    """The response to a request, by its slot, and the seconds it took."""

    slot: int
    response: Response
    seconds: float
