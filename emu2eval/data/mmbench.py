"""MMBench (Liu et al., 2023): a TSV with images as base64, each question in every rotation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from emu2eval.data.options import check_letter, option_fields
from emu2eval.data.paths import inside
from emu2eval.errors import DataError, UnknownName
from emu2eval.media.tsvfile import TableRow, rows
from emu2eval.types import Image, Sample

_ROTATION = 1_000_000
"""The official files number the rotations of question 7 as 7, 1000007, 2000007, …"""

_NOTHING = ("", "nan", "none")


@dataclass(frozen=True)
class _Question:
    """One row: a question in one order of its options. answer: its letter, None where it is hidden."""

    number: int
    rotation: int
    options: tuple[str, ...]
    answer: str | None
    cells: Mapping[str, str]
    image: Image


def read(root: Path, file: str, rotations: Literal["all", "first"] = "all") -> Iterator[Sample]:
    """Every rotation of every question as a sample of its own; cluster: the question.

    rotations: `all`, or `first` for each question once, as a pool of demonstrations wants it. A file
    that holds each question once is rotated here, the first option going last. Groups: category and
    l2-category.
    """
    path = inside(root, file, where="file")
    questions = _questions(path)
    if all(question.rotation == 0 for question in questions):
        questions = [turned for question in questions for turned in _rotated(question)]
    counts = Counter(question.number for question in questions)
    for question in questions:
        if rotations == "all" or question.rotation == 0:
            yield _sample(question, counts[question.number])


def _sample(question: _Question, rotations: int) -> Sample:
    cells = question.cells
    groups = {name: cells[name] for name in ("category", "l2-category") if _said(cells.get(name))}
    return Sample(
        id=f"{question.number}-{question.rotation}",
        fields={
            "question": cells["question"],
            "hint": _said(cells.get("hint")) or "",
            "rotation": str(question.rotation),
            "rotations": str(rotations),
            **option_fields(question.options),
        },
        images=(question.image,),
        answer=question.answer,
        references=(question.answer,) if question.answer is not None else (),
        choices=question.options,
        cluster=str(question.number),
        groups=groups,
    )


def _rotated(question: _Question) -> Iterator[_Question]:
    options, count = question.options, len(question.options)
    for turn in range(count):
        answer = question.answer
        if answer is not None:
            answer = chr(ord("A") + (ord(answer) - ord("A") - turn) % count)
        turned = options[turn:] + options[:turn]
        yield _Question(question.number, turn, turned, answer, question.cells, question.image)


def _questions(path: Path) -> list[_Question]:
    found: list[tuple[TableRow, int]] = []
    shown: dict[int, Image] = {}
    for row in rows(path, ["image"]):
        for column in ("index", "question", "A"):
            if column not in row.cells:
                raise UnknownName("column", column, row.cells, where=row.where)
        index = _index(row.cells["index"], row.where)
        if "image" in row.images:
            shown[index] = row.images["image"]
        found.append((row, index))
    return [_question(row, index, shown) for row, index in found]


def _question(row: TableRow, index: int, shown: Mapping[int, Image]) -> _Question:
    options = []
    for letter in "ABCDEFGHIJ":
        option = _said(row.cells.get(letter))
        if option is None:
            break
        options.append(option)
    answer = _said(row.cells.get("answer"))
    if answer is not None:
        check_letter(answer, options, where=row.where)
    image = shown.get(index)
    if image is None:
        # A rotation may name the row whose image it shares.
        name = _said(row.cells.get("image"))
        image = shown.get(_index(name, row.where)) if name is not None else None
    if image is None:
        raise DataError("the row has no image", where=row.where, hint="fetch the file again")
    rotation, number = divmod(index, _ROTATION)
    return _Question(number, rotation, tuple(options), answer, row.cells, image)


def _index(text: str, where: str) -> int:
    if not text.isdecimal():
        raise DataError(f"the index {text[:40]!r} is no whole number", where=where)
    return int(text)


def _said(text: str | None) -> str | None:
    """The cell's text; None for what pandas and the authors write where there is nothing."""
    return None if text is None or text.strip().lower() in _NOTHING else text
