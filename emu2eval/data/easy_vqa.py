"""easy-VQA (Zhou, 2019): coloured shapes, 64 x 64 pixels, from the published `easy-vqa` package."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from emu2eval.errors import MissingExtra
from emu2eval.types import Image, Sample

COLOURS = ("black", "blue", "brown", "gray", "green", "red", "teal", "yellow")
Part = Literal["train", "test"]
SHAPES = ("circle", "rectangle", "triangle")


def read(root: Path, part: Part, apart: Sequence[str] = ()) -> Iterator[Sample]:
    """easy-VQA, from its Python package. part: "train" (38,575 questions on 4,000 images) or "test" (9,673
    on 1,000).

    The package's files hold no question ids; image and question together are unique, so they are
    the id. Groups: answer_type as in VQAv2 (here yes/no, colour, shape); combination: what the image
    shows if it is one of `apart`, such as "red triangle", else "other".
    apart: combinations of colour and shape that are sub-scores of their own.
    """
    folder = f"{package_folder()}/data/{part}/images"
    shown = {s.number: f"{s.colour} {s.shape}" for s in shape_images(part)} if apart else {}
    for question, answer, image in _rows(part):
        yield Sample(
            id=f"{part}-{image:04d}-{_slug(question)}",
            fields={"question": question},
            images=(Image(f"{folder}/{image}.png"),),
            answer=answer,
            references=(answer,),
            cluster=f"{part}-{image:04d}",
            groups={"answer_type": answer_type(answer), **_apart(shown.get(image), apart)},
        )


@cache  # of a few hundred questions in tens of thousands of rows
def _slug(question: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", question.lower()).strip("-")


def answer_type(answer: str) -> str:
    """What kind of answer it is: yes/no, colour or shape."""
    if answer in ("yes", "no"):
        return "yes/no"
    return "colour" if answer in COLOURS else "shape"


def _apart(shown: str | None, apart: Sequence[str]) -> dict[str, str]:
    if shown is None:
        return {}
    return {"combination": shown if shown in apart else "other"}


@dataclass(frozen=True, slots=True)
class ShapeImage:
    """number: of the file; shape, colour: None where no question of the image gives it away."""

    part: str
    number: int
    shape: str | None
    colour: str | None

    @property
    def image(self) -> Image:
        return Image(f"{package_folder()}/data/{self.part}/images/{self.number}.png")


@cache
def shape_images(part: Part) -> tuple[ShapeImage, ...]:
    """Every image of the part, "train" or "test", in the order of the numbers.

    The package stores no labels, so they are gathered from all questions and answers of an image.
    """
    said: defaultdict[int, set[str]] = defaultdict(set)
    denied: defaultdict[int, set[str]] = defaultdict(set)
    for question, answer, number in _rows(part):
        named, negated = _words(question)
        if answer in ("yes", "no"):
            present = (answer == "yes") != negated
            (said if present else denied)[number] |= named
        else:
            said[number] |= named | {answer}
    return tuple(
        ShapeImage(
            part,
            number,
            _only(SHAPES, said[number], denied[number]),
            _only(COLOURS, said[number], denied[number]),
        )
        for number in sorted(said.keys() | denied.keys())
    )


@cache
def _words(question: str) -> tuple[frozenset[str], bool]:
    """The colours and shapes that a question names, and whether it denies them."""
    words = set(re.findall("[a-z]+", question))
    return frozenset(words.intersection(COLOURS) | words.intersection(SHAPES)), bool(
        words & {"no", "not"}
    )


def _only(options: tuple[str, ...], said: set[str], denied: set[str]) -> str | None:
    left = [o for o in options if o in said] or [o for o in options if o not in denied]
    return left[0] if len(left) == 1 else None


def _rows(part: str) -> list[tuple[str, str, int]]:
    """(question, answer, number of the image)."""
    text = (package_folder() / "data" / part / "questions.json").read_text(encoding="utf-8")
    return [(question, answer, number) for question, answer, number in json.loads(text)]


@cache
def package_folder() -> Path:
    """Where the installed package keeps its files; found without running its code."""
    spec = find_spec("easy_vqa")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtra("easy-vqa", "all", why="the task easy-vqa")
    return Path(spec.submodule_search_locations[0])
