"""For tests of plug-ins: a model that answers by a script, and a small task that needs no data.

def test_my_scorer(tmp_path):
    task = small_task(tmp_path, score={"scorer": "my_package:MyScorer"})
    (result,) = evaluate(task, ScriptedModel("red"), out=tmp_path)
    assert result.rows[0].value == 20
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml

from emu2eval.adapters.base import Adapter, Limits
from emu2eval.adapters.scripted import Reply, as_response, query_text
from emu2eval.media import images
from emu2eval.types import Image, Request, Response, Sample

COLOURS = ("red", "green", "blue", "yellow", "black")
"""The colours of the small task's squares, one after the other."""

_SIDE = 16


class ScriptedModel(Adapter):
    """A model that answers from a script and records its requests.

    answers: one reply to everything; a mapping from a text in the query to the reply ("" for all
    others); or a function of the request. A reply is a text, an image, a log-probability for each
    choice, or a Response. A text also answers a choice: the equal one is likely. outputs, images,
    positions, batch: as of `Limits`; a word and an image take one position each. asked: every request so
    far, in order.
    """

    def __init__(
        self,
        answers: Reply | Mapping[str, Reply] | Callable[[Request], Reply] = "",
        *,
        name: str = "scripted",
        outputs: Collection[str] = ("text", "choice"),
        images: int | None = None,
        positions: int | None = None,
        batch: int = 8,
    ):
        self.name = name
        self.limits = Limits(frozenset(outputs), images, positions, batch=batch)
        self.answers = answers
        self.asked: list[Request] = []
        # What a function will say is unknown, so no answer of an earlier process is reused.
        told = isinstance(answers, str) or (
            isinstance(answers, Mapping)
            and all(isinstance(reply, str) for reply in answers.values())
        )
        self._script = answers if told else uuid4().hex

    def identity(self) -> Mapping[str, Any]:
        return {"script": self._script}

    def positions(self, request: Request) -> int | None:
        if self.limits.positions is None:
            return None
        parts = request.prompt.flat()
        return sum(len(part.split()) if isinstance(part, str) else 1 for part in parts)

    def answer(self, requests: Sequence[Request]) -> list[Response]:
        self.asked += requests
        return [as_response(self._reply(request), request.output) for request in requests]

    def _reply(self, request: Request) -> Reply:
        if callable(self.answers):
            return self.answers(request)
        if not isinstance(self.answers, Mapping):
            return self.answers
        query = query_text(request)
        return next((reply for text, reply in self.answers.items() if text in query), "")


def small_task(
    folder: str | Path, *, queries: int = 5, pool: int = 10, draw: bool = False, **changes: Any
) -> Path:
    """Writes small.yaml, a task about the colours of squares, into the folder; returns its path.

    queries, pool: the number of queries, and of samples to choose demonstrations from. draw: squares are
    to be drawn, so answers and references are images. changes: keys that override the task file's own,
    such as output, score or demonstrations.
    """
    options = {"draw": True} if draw else {}
    spec: dict[str, Any] = {
        "name": "small",
        "title": "Colours of squares",
        "data": {
            "reader": f"{__name__}:squares",
            "options": options,
            "splits": {"test": {"count": queries}, "train": {"count": pool, "first": 1000}},
        },
        "split": "test",
        "demonstrations": {"split": "train"},
        "output": {"kind": "image"} if draw else {"kind": "text"},
        "score": {"scorer": "images", "options": {"clip_i": {"encoder": "thumbnail"}}}
        if draw
        else {"scorer": "exact_match", "clean": ["strip"]},
        "protocol": "plain",
        "protocols": {"plain": {"ask": "{question}" if draw else "{image}{question} Answer:"}},
    }
    path = Path(folder) / "small.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({**spec, **changes}), encoding="utf-8")
    return path


def squares(root: Path, count: int, first: int = 0, draw: bool = False) -> Iterator[Sample]:
    """The reader of the small task: squares from number `first` on, in COLOURS. Reads no files."""
    for number in range(first, first + count):
        colour = COLOURS[number % len(COLOURS)]
        shown = square(colour, number)
        asked = f"draw a {colour} square" if draw else f"what colour is square {number}?"
        yield Sample(
            id=f"q{number:04d}",
            fields={"question": asked},
            images=() if draw else (shown,),
            answer=shown if draw else colour,
            references=(shown,) if draw else (colour,),
            choices=COLOURS,
            groups={"kind": "odd" if number % 2 else "even"},
        )


def square(colour: str, number: int = 0) -> Image:
    """16 x 16 pixels in a colour; no two of different numbers are alike, or they would exclude one another
    as demonstrations."""
    from PIL import Image as PILImage

    pixels = PILImage.new("RGB", (_SIDE, _SIDE), colour)
    pixels.putpixel((0, 0), (number % 256, number // 256 % 256, 7))
    return images.from_pil(pixels)
