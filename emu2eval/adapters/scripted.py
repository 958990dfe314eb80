"""An adapter that answers by a script in its settings; `emu2eval.testing` has one for tests in Python."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar

from msgspec import Meta

from emu2eval.adapters.base import Adapter, Limits
from emu2eval.spec.settings import Count, Settings
from emu2eval.types import ChoiceOutput, Image, Output, Request, Response

Reply = str | Image | Response | Sequence[float]
"""What a script answers: a text, an image, a log-probability for each choice, or a whole response."""


class ScriptedSettings(Settings):
    """replies: text in the query -> reply; default: the reply where no key fits; fail: texts in the
    query whose requests fail; delay: seconds a call; log: a file that gets the key of every request
    made, one a line, so that a test can count them; processes: one that gets the number of the process for
    each call. images, positions, outputs: as of `Limits`.
    batch: requests at a time.
    """

    replies: dict[str, str] | None = None
    default: str = "yes"
    fail: tuple[str, ...] = ()
    delay: Annotated[float, Meta(ge=0)] = 0.0
    log: str | None = None
    processes: str | None = None
    batch: Count = 8
    images: int | None = None
    positions: int | None = None
    outputs: tuple[str, ...] = ("text", "choice")


class Scripted(Adapter):
    """Replies with the value of the first key of `replies` that occurs in the query's text."""

    neutral: ClassVar[frozenset[str]] = frozenset({"batch", "delay", "log", "fail", "processes"})

    def __init__(self, settings: ScriptedSettings):
        self.limits = Limits(
            frozenset(settings.outputs), settings.images, settings.positions, batch=settings.batch
        )
        self.replies = settings.replies or {}
        self.default = settings.default
        self.fail = settings.fail
        self.delay = settings.delay
        self.log = settings.log
        self.processes = settings.processes

    def positions(self, request: Request) -> int | None:
        """One position per word and one per image."""
        if self.limits.positions is None:
            return None
        parts = request.prompt.flat()
        return sum(len(part.split()) if isinstance(part, str) else 1 for part in parts)

    def answer(self, requests: Sequence[Request]) -> list[Response]:
        if self.log:
            with Path(self.log).open("ab", buffering=0) as lines:
                lines.write("".join(f"{request.key}\n" for request in requests).encode())
        if self.processes:
            with Path(self.processes).open("ab", buffering=0) as lines:
                lines.write(f"{os.getpid()}\n".encode())
        if self.delay:
            time.sleep(self.delay)
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Response:
        query = query_text(request)
        if any(text in query for text in self.fail):
            return Response(error="the script says that this request fails")
        reply = next((r for text, r in self.replies.items() if text in query), self.default)
        return as_response(reply, request.output)


def query_text(request: Request) -> str:
    """The texts of the query, without its demonstrations."""
    return "".join(part for part in request.prompt.query if isinstance(part, str))


def as_response(reply: Reply, output: Output) -> Response:
    """The response that a reply stands for. A text also answers a choice: the equal one is likely."""
    if isinstance(reply, Response):
        return reply
    if isinstance(reply, Image):
        return Response(images=(reply,))
    if not isinstance(reply, str):
        return Response(log_probs=tuple(reply))
    if isinstance(output, ChoiceOutput):
        fits = [0.0 if choice == reply else -9.0 for choice in output.choices]
        total = math.log(sum(math.exp(fit) for fit in fits))
        return Response(log_probs=tuple(fit - total for fit in fits))
    return Response(text=reply)
