"""MMBench (Liu et al., 2023): a TSV with images as base64, each question in every rotation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from string import ascii_uppercase
from typing import Literal

from emu2eval.data.damaged import spared
from emu2eval.data.options import check_letter, option_fields
from emu2eval.data.paths import inside
from emu2eval.errors import DataError, UnknownName
from emu2eval.media.tsvfile import TableRow, rows
from emu2eval.types import Image, Sample

_ROTATION = 1_000_000
"""The official files number the rotations of question 7 as 7, 1000007, 2000007, …"""


@dataclass(frozen=True)
class _Question:
    """One row: a question in one order of its options. answer: its letter, None where it is hidden."""

    number: int
    rotation: int
    options: tuple[str, ...]
    answer: str | None
    cells: Mapping[str, str]
    image: Image | None
    where: str

    @property
    def name(self) -> str:
        return f"{self.number}-{self.rotation}"


def read(root: Path, file: str, rotations: Literal["all", "first"] = "all") -> Iterator[Sample]:
    """MMBench, every rotation of every question as a sample of its own; cluster: the question.

    rotations: `all`, or `first` for each question once, as a pool of demonstrations wants it. A file
    that holds each question once is rotated here, the first option going last. Groups: category and
    l2-category.
    file: the official TSV.
    """
    path = inside(root, file, where="file")
    questions = _questions(path)
    if all(question.rotation == 0 for question in questions):
        questions = [turned for question in questions for turned in _rotated(question)]
    counts = Counter(question.number for question in questions)
    for question in questions:
        if rotations == "all" or question.rotation == 0:
            yield spared(question.name, partial(_sample, question, counts[question.number]))


def _sample(question: _Question, rotations: int) -> Sample:
    if question.answer is not None:
        check_letter(question.answer, question.options, where=question.where)
    if question.image is None:
        raise DataError("the row has no image", where=question.where)
    cells = question.cells
    groups = {name: cells[name] for name in ("category", "l2-category") if _said(cells.get(name))}
    return Sample(
        id=question.name,
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
        if answer is not None and answer in ascii_uppercase[:count]:
            answer = chr(ord("A") + (ord(answer) - ord("A") - turn) % count)
        yield replace(
            question, rotation=turn, options=options[turn:] + options[:turn], answer=answer
        )


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
    image = shown.get(index)
    if image is None:
        # A rotation may name the row whose image it shares.
        name = _said(row.cells.get("image"))
        image = shown.get(int(name)) if name is not None and name.isdecimal() else None
    rotation, number = divmod(index, _ROTATION)
    answer = _said(row.cells.get("answer"))
    return _Question(number, rotation, tuple(options), answer, row.cells, image, row.where)


def _index(text: str, where: str) -> int:
    if not text.isdecimal():
        raise DataError(f"the index {text[:40]!r} is not an integer", where=where)
    return int(text)


def _said(text: str | None) -> str | None:
    """The cell's text; None where it is empty. "None" and "NaN" are texts: some options say so."""
    return text if text is not None and text.strip() else None
