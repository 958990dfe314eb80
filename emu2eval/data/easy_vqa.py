"""easy-VQA (Zhou, 2019): coloured shapes, 64 x 64 pixels, from the published `easy-vqa` package."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from emu2eval.errors import DataError, MissingExtra
from emu2eval.types import Picture, Sample

COLOURS = ("black", "blue", "brown", "gray", "green", "red", "teal", "yellow")
SHAPES = ("circle", "rectangle", "triangle")


def read(root: Path, part: str) -> Iterator[Sample]:
    """part: "train" (38,575 questions on 4,000 pictures) or "test" (9,673 on 1,000).

    The package's files hold no question ids; picture and question together are unique, so they are
    the id. Groups: answer_type as in VQAv2 (here yes/no, colour, shape).
    """
    folder = package_folder() / "data" / part
    if part not in ("train", "test"):
        raise DataError(f"easy-VQA has the parts train and test, not {part!r}")
    rows = json.loads((folder / "questions.json").read_text(encoding="utf-8"))
    for question, answer, image in rows:
        slug = re.sub(r"[^a-z0-9]+", "-", question.lower()).strip("-")
        yield Sample(
            id=f"{part}-{image:04d}-{slug}",
            fields={"question": question},
            pictures=(Picture(f"{folder}/images/{image}.png"),),
            answer=answer,
            references=(answer,),
            cluster=f"{part}-{image:04d}",
            groups={"answer_type": answer_type(answer)},
        )


def answer_type(answer: str) -> str:
    """What kind of answer it is: yes/no, colour or shape."""
    if answer in ("yes", "no"):
        return "yes/no"
    return "colour" if answer in COLOURS else "shape"


def package_folder() -> Path:
    """Where the installed package keeps its files; found without running its code."""
    spec = find_spec("easy_vqa")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtra("easy-vqa", "all", why="the task easy-vqa")
    return Path(spec.submodule_search_locations[0])
