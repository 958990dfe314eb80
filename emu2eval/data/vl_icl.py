"""VL-ICL Bench (Zong et al., 2025, github.com/ys-zong/VL-ICL): query.json and support.json of each set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Literal

import msgspec

from emu2eval.data.damaged import damaged, spared
from emu2eval.data.jsonfile import parse
from emu2eval.data.paths import inside
from emu2eval.errors import DataError
from emu2eval.types import Image, Sample

OPERATORS = ("+", "-", "x")
"""In the order in which a support item of operator induction lists its three answers."""

Value = str | int | float


class _Shown(msgspec.Struct):
    images: list[str]
    captions: list[str] = []


class _Row(msgspec.Struct):
    id: str | int | None = None
    image: str | list[str] = []
    question: str = ""
    answer: Value | list[Value] = ""
    operator: str | None = None
    classes: list[str] = []
    task_label: str | None = None
    support: dict[str, _Shown] = {}
    task: Value | None = None
    latent: str | None = None
    latent_value: str | None = None

    @property
    def images(self) -> list[str]:
        return [self.image] if isinstance(self.image, str) else self.image

    @property
    def name(self) -> str:
        """Its id, or where it has none what it shows and asks."""
        return str(self.id) if self.id is not None else " ".join([*self.images, self.question])


class _Pair(msgspec.Struct):
    same: _Row
    diff: _Row
    id: str | int | None = None


def read(
    root: Path,
    folder: str,
    dataset: str,
    part: Literal["query", "support"],
    ask: str | None = None,
    draws: bool = False,
) -> Iterator[Sample]:
    """Queries of a data set of VL-ICL Bench, or the samples that may be shown to them.

    folder: what is below the root of the hub's repository, from where images are named.
    ask: how a class is asked for, with {class} and {caption}; the support then stands in each query.
    draws: the reply is the image. Fields: question; place, `3 of 200` in its file, by which the chooser
    `vl-icl` draws, and order, among the samples of one place, so that names decide nothing; within, which
    samples may be shown to which queries: those of equal value.
    dataset: its name, such as open_mi; part: query or support.
    """
    base = inside(root, folder, where="folder")
    set_folder = inside(base, dataset, where="dataset")
    if part == "query" or ask is not None:
        path = set_folder / "query.json"
        rows = _rows(path)
        for place, row in enumerate(rows):
            where = f"{path}, entry {place}"
            if part == "query":
                among = f"{place} of {len(rows)}"
                yield spared(row.name, partial(_query, base, row, among, where, bool(ask), draws))
            else:
                yield from _episode(base, row, place, where, ask or "", draws)
        return
    path = set_folder / "support.json"
    if dataset == "matching_mi":
        yield from _pairs(base, path)
        return
    shown = _rows(path)
    for place, row in enumerate(shown):
        yield from _support(base, row, f"{place} of {len(shown)}", f"{path}, entry {place}", draws)


def _rows(path: Path) -> list[_Row]:
    """The entries of a file. In CoBSAT's `latent` names the key that holds the latent value."""
    rows = parse(path, list[dict[str, Any]])
    for row in rows:
        if isinstance(latent := row.get("latent"), str):
            row["latent_value"] = row.get(latent)
    try:
        return msgspec.convert(rows, list[_Row])
    except msgspec.ValidationError as error:
        raise damaged(path, b"", error) from None


def _query(base: Path, row: _Row, place: str, where: str, episodic: bool, draws: bool) -> Sample:
    answers = row.answer if isinstance(row.answer, list) else [row.answer]
    fields = {"question": row.question, "place": place}
    if episodic:
        fields["within"] = row.name
        fields["class"] = row.task_label or "" if draws else str(row.answer)
        if fields["class"] not in row.support:
            raise DataError(f"its class {fields['class']!r} is not in its support set", where=where)
    else:
        fields["within"] = _set(row, row.operator)
    # An image to be drawn has none to show: `image` is then only the name it would be saved by.
    images = () if draws else _images(base, row.images, where)
    return Sample(
        id=row.name,
        fields=fields,
        images=images,
        answer=None if draws else str(answers[0]),
        references=tuple(str(answer).lower() for answer in answers),
        cluster=" ".join(row.images) if images else row.name,
        groups=_groups(row),
    )


def _episode(
    base: Path, row: _Row, place: int, where: str, ask: str, draws: bool
) -> Iterator[Sample]:
    """The images of each class of one query, in the order of the file."""
    order = count()
    for number, label in enumerate(row.classes or row.support):
        if label not in row.support:
            raise DataError(f"the class {label!r} is not in its support set", where=where)
        shown = row.support[label]
        for turn, name in enumerate(shown.images):
            caption = shown.captions[turn] if turn < len(shown.captions) else label
            (image,) = _images(base, [name], where)
            yield Sample(
                id=f"{row.name}/{number:02d}-{turn:02d}",
                fields={
                    "question": ask.replace("{class}", label).replace("{caption}", caption),
                    "place": str(place),
                    "order": str(next(order)),
                    "within": row.name,
                    "class": label,
                },
                images=() if draws else (image,),
                answer=image if draws else label,
                cluster=row.name,
            )


def _support(base: Path, row: _Row, place: str, where: str, draws: bool) -> Iterator[Sample]:
    images = _images(base, row.images, where)
    answers: Mapping[str, Value] = {"": row.answer if not isinstance(row.answer, list) else ""}
    if not draws and isinstance(row.answer, list):
        if len(row.answer) != len(OPERATORS):
            raise DataError(f"{len(row.answer)} answers for three operators", where=where)
        # Which of the three is shown depends on the query's operator: each is a sample of its own.
        answers = dict(zip(OPERATORS, row.answer, strict=True))
    for operator, answer in answers.items():
        yield Sample(
            # Numbers count from 0 in both files, and a query is never shown what has its own id.
            id=f"support {row.name} {operator}".rstrip(),
            fields={"question": row.question, "place": place, "within": _set(row, operator)},
            images=() if draws else images,
            answer=images[0] if draws else str(answer),
            cluster=" ".join(row.images),
        )


def _pairs(base: Path, path: Path) -> Iterator[Sample]:
    pairs = parse(path, list[_Pair])
    for place, pair in enumerate(pairs):
        # Shown in this order, whatever the files are called (2b77eee, utils/ICL_utils.py).
        for order, (kind, row) in enumerate((("same", pair.same), ("diff", pair.diff))):
            name = str(pair.id) if pair.id is not None else row.name
            yield Sample(
                id=f"support {name} {kind}",
                fields={
                    "question": row.question,
                    "place": f"{place} of {len(pairs)}",
                    "order": str(order),
                    "within": "",
                },
                images=_images(base, row.images, f"{path}, entry {place}"),
                answer=str(row.answer),
                cluster=" ".join(row.images),
            )


def _set(row: _Row, operator: str | None) -> str:
    """What a query's demonstrations have in common with it: an operator; in CoBSAT task and latent."""
    if row.latent is None:
        return operator or ""
    return f"{row.task}, {row.latent} {row.latent_value}"


def _groups(row: _Row) -> dict[str, str]:
    found = {"operator": row.operator, "latent": row.latent}
    if row.latent is not None:
        found["task"] = str(row.task)
    if ": " in row.question and row.operator is None and not row.latent:
        found["attribute"] = row.question.partition(":")[0]
    return {name: label for name, label in found.items() if label}


def _images(base: Path, images: list[str], where: str) -> tuple[Image, ...]:
    return tuple(Image(str(inside(base, image, where=where))) for image in images)
