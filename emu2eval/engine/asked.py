"""What a model is asked, without anything of the run it is asked for; small, and the same on any machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from emu2eval.types import Mark, Output, Part, Prompt, Request, Response, Turn

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
        request = self.request
        prompt = request.prompt
        turns = tuple((turn.ask, turn.reply) for turn in prompt.turns)
        told = (prompt.query, turns, prompt.system, prompt.lead, prompt.separator, prompt.opening)
        return _arrived, (self.slot, request.key, told, request.output, self.first)


def _arrived(
    slot: int, key: str, told: tuple[Any, ...], output: Output, first: First | None
) -> Asked:
    turns: tuple[tuple[tuple[Part, ...], tuple[Part, ...]], ...]
    query, turns, *how = told
    prompt = Prompt(query, tuple(Turn(ask, reply) for ask, reply in turns), *how)
    return Asked(slot, Request(key, prompt, output), first)


class Answered(NamedTuple):
    """The response to a request, by its slot, and the seconds it took."""

    slot: int
    response: Response
    seconds: float
