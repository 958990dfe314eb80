"""A user's own data: a JSONL or CSV file and a folder of images."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from emu2eval.data.paths import inside
from emu2eval.errors import DataError, UnknownName
from emu2eval.types import Image, Sample

_decode = msgspec.json.Decoder().decode


def read(
    root: Path,
    file: str,
    *,
    id: str = "id",
    images: list[str] | str = "image",
    image_folder: str = "",
    fields: list[str] | None = None,
    answer: str | None = "answer",
    answer_is_image: bool = False,
    references: str | None = None,
    choices: str | None = None,
    cluster: str | None = None,
    groups: list[str] | None = None,
) -> Iterator[Sample]:
    """Rows of `file` (.jsonl, .csv or .tsv) as samples; every option names a column.

    images: columns holding paths below `image_folder` (a JSONL cell may hold a list of paths).
    fields: columns that templates may use; absent = every text or number column.
    references, choices: in JSONL a list, in CSV texts separated by `|`; references default to the
    answer. cluster defaults to the first image.
    """
    path = inside(root, file, where="data.splits")
    image_columns = [images] if isinstance(images, str) else list(images)
    folder = inside(root, image_folder, where="image_folder") if image_folder else root
    for where, row in rows(path):
        for column in [id, *image_columns, *filter(None, (references, choices, cluster))]:
            if column not in row:
                raise UnknownName("column", column, row, where=where)
        sample_id = row[id]
        if sample_id is None or sample_id == "":
            raise DataError(f"the row has no id in its column {id!r}", where=where)
        shown = _images(row, image_columns, folder, where)
        reply = row.get(answer) if answer else None
        listed = (
            _list(row[references]) if references else ([str(reply)] if reply is not None else [])
        )
        names = fields if fields is not None else [k for k, v in row.items() if _plain(v)]
        yield Sample(
            id=str(sample_id),
            fields={name: _text(row, name, where) for name in names},
            images=tuple(shown),
            answer=_reply(reply, answer_is_image, folder, where),
            references=tuple(listed),
            choices=tuple(_list(row[choices])) if choices else (),
            cluster=_cluster(row, cluster or image_columns[0]) if shown or cluster else None,
            groups={name: _text(row, name, where) for name in groups or ()},
        )


def rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(`file:line`, row) of a .jsonl, .csv or .tsv file. Raises DataError."""
    if path.suffix in (".csv", ".tsv"):
        with path.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines, delimiter="\t" if path.suffix == ".tsv" else ",")
            for row in reader:
                where = f"{path}:{reader.line_num}"
                if None in row or None in row.values():
                    raise DataError("the row has more or fewer cells than the header", where=where)
                yield where, row
        return
    if path.suffix != ".jsonl":
        raise DataError(
            "a table is a .jsonl, .csv or .tsv file", where=path, hint="rename or convert it"
        )
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            where = f"{path}:{number}"
            try:
                row = _decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise DataError(f"the line is not JSON: {error}", where=where) from None
            if not isinstance(row, dict):
                raise DataError("the line is not a JSON object", where=where)
            yield where, row


def _images(row: Mapping[str, Any], columns: list[str], folder: Path, where: str) -> list[Image]:
    paths = [path for column in columns for path in _list(row[column], separator=None)]
    return [Image(str(inside(folder, path, where=where))) for path in paths if path]


def _reply(reply: Any, is_image: bool, folder: Path, where: str) -> str | Image | None:
    if reply is None:
        return None
    return Image(str(inside(folder, str(reply), where=where))) if is_image else str(reply)


def _list(value: Any, separator: str | None = "|") -> list[str]:
    if isinstance(value, list):
        return [str(item) for item in value]
    if value is None or value == "":
        return []
    return str(value).split(separator) if separator else [str(value)]


def _plain(value: Any) -> bool:
    return isinstance(value, (str, int, float)) and not isinstance(value, bool)


def _text(row: Mapping[str, Any], name: str, where: str) -> str:
    if name not in row:
        raise UnknownName("column", name, row, where=where)
    return str(row[name])


def _cluster(row: Mapping[str, Any], column: str) -> str:
    cell = row[column]
    return str(cell[0] if isinstance(cell, list) and cell else cell)
