"""A user's own data: a JSONL or CSV file and a folder of images."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from emu2eval.data.paths import inside
from emu2eval.data.textfile import opened
from emu2eval.data.vqa import most_common
from emu2eval.errors import DataError, UnknownName
from emu2eval.media.tsvfile import large_cells
from emu2eval.types import Image, Sample

_decode = msgspec.json.Decoder().decode

_ANSWER = "answer"
"""The column of answers where none is named."""


def read(
    root: Path,
    file: str,
    *,
    id: str = "id",
    images: list[str] | str = "image",
    image_folder: str = "",
    fields: list[str] | None = None,
    answer: str | None = _ANSWER,
    answer_is_image: bool = False,
    references: str | None = None,
    choices: str | None = None,
    cluster: str | None = None,
    groups: list[str] | None = None,
) -> Iterator[Sample]:
    """Rows of `file` (.jsonl, .csv or .tsv) as samples; every option names a column, which must be there.

    images: columns holding paths below `image_folder` (a JSONL cell may hold a list of paths).
    fields: columns that templates may use; absent = every text or number column.
    answer: a text, or a list of them in JSONL, which are several references of which the most common (ties:
    the first) is shown as a demonstration; null = the answers are hidden. An empty cell is no answer.
    references, choices: in JSONL a list, in CSV texts separated by `|`; references default to the
    answer. cluster defaults to the first image.

    Raises DataError with the row that holds something else in a column than it is used for.
    """
    path = inside(root, file, where="data.splits")
    shown = [images] if isinstance(images, str) else list(images)
    folder = inside(root, image_folder, where="image_folder") if image_folder else root
    for where, cells in _long_rows(path):
        row = _Row(where, cells, listed=path.suffix == ".jsonl")
        name = row.id(id)
        paths = [each for column in shown for each in row.paths(column)]
        pictures = tuple(_image(folder, each, where) for each in paths)
        wanted = row.texts(references, "references") if references else []
        if references and answer == _ANSWER and _ANSWER not in cells and not answer_is_image:
            # Whoever names references need not have the column that answers stand in by default.
            given = wanted
        else:
            given = row.texts(answer, "answer", split=False) if answer else []
        reply = most_common(given) or None
        yield Sample(
            id=name,
            fields=row.plain() if fields is None else {each: row.field(each) for each in fields},
            images=pictures,
            answer=_image(folder, reply, where) if answer_is_image and reply else reply,
            references=tuple(
                _image(folder, text, where) if answer_is_image and not references else text
                for text in (wanted if references else given)
            ),
            choices=tuple(row.texts(choices, "choices")) if choices else (),
            cluster=row.label(cluster, "cluster") if cluster else next(iter(paths), None),
            groups={each: label for each in groups or () if (label := row.label(each, "groups"))},
        )


def rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(`file:line`, row) of a .jsonl, .csv or .tsv file. DataError, in CSV also for cells of 128 KB."""
    if path.suffix in (".csv", ".tsv"):
        yield from _separated(path, "\t" if path.suffix == ".tsv" else ",")
        return
    if path.suffix != ".jsonl":
        raise DataError(
            "a table is a .jsonl, .csv or .tsv file", where=path, hint="rename or convert it"
        )
    with opened(path) as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            where = f"{path}:{number}"
            try:
                row = _decode(line)
            except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
                raise DataError(f"the line is not JSON: {error}", where=where) from None
            if not isinstance(row, dict):
                raise DataError("the line is not a JSON object", where=where)
            yield where, row


def _long_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The same with cells of any length, such as whole documents."""
    with large_cells():
        yield from rows(path)


def _separated(path: Path, separator: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    with opened(path) as lines:
        reader = csv.DictReader(lines, delimiter=separator)
        try:
            names = reader.fieldnames or ()
            repeated = next((name for name in names if names.count(name) > 1), None)
            if repeated is not None:
                raise DataError(f"two columns are named {repeated!r}", where=f"{path}:1")
            for row in reader:
                where = f"{path}:{reader.line_num}"
                if None in row or None in row.values():
                    raise DataError("the row has more or fewer cells than the header", where=where)
                yield where, row
        except csv.Error as error:
            raise DataError(
                f"this is no table of text: {error}",
                where=f"{path}:{reader.line_num + 1}",
                hint="a quotation mark that is not closed, or a file of another kind under this name",
            ) from None


@dataclass(frozen=True, slots=True)
class _Row:
    """One row, and what its cells hold for a use. listed: cells can hold lists; else `|` separates texts."""

    where: str
    cells: Mapping[str, Any]
    listed: bool

    def require(self, column: str, option: str) -> Any:
        """The cell of a column; raises UnknownName where there is none."""
        if column not in self.cells:
            there = ", ".join(map(str, self.cells)) or "none"
            if not self.listed and len(self.cells) == 1 and ";" in there:
                there += "; the file separates them by semicolons, a .csv file does by commas"
            raise UnknownName(
                "column",
                column,
                self.cells,
                where=self.where,
                hint=f"`{option}` in the options of the reader names it; the columns here are: {there}"
                + ("; `answer: null` where answers are hidden" if option == "answer" else ""),
            )
        return self.cells[column]

    def id(self, column: str) -> str:
        cell = self.require(column, "id")
        if cell is None or cell == "":
            raise DataError(f"the row has no id in its column {column!r}", where=self.where)
        return self._text(cell, column, "id", "a text or a number")

    def field(self, column: str) -> str:
        """A text for templates."""
        return self._text(self.require(column, "fields"), column, "fields", "a text or a number")

    def plain(self) -> dict[str, str]:
        """All cells that are texts or numbers."""
        return {name: str(cell) for name, cell in self.cells.items() if _plain(cell)}

    def label(self, column: str, option: str) -> str | None:
        """What a row counts in, None where the cell is empty; of a list the first."""
        cell = self.require(column, option)
        if isinstance(cell, list) and option == "cluster":
            cell = next(iter(cell), None)
        if isinstance(cell, bool):
            return "true" if cell else "false"
        if cell is None or cell == "":
            return None
        return self._text(cell, column, option, "a text, a number, true or false")

    def paths(self, column: str) -> list[str]:
        """Paths of images, those that are empty left out."""
        cell = self.require(column, "images")
        listed = cell if isinstance(cell, list) else [cell]
        for path in listed:
            if path is not None and not isinstance(path, str):
                raise self._other(path, column, "images", "a path or a list of paths")
        return [path for path in listed if path]

    def texts(self, column: str, option: str, *, split: bool = True) -> list[str]:
        """The texts of a cell, those that are empty left out. split: in CSV, `|` stands between them."""
        cell = self.require(column, option)
        if isinstance(cell, list):
            listed: Sequence[Any] = cell
        elif split and not self.listed and isinstance(cell, str):
            listed = [text.strip() for text in cell.split("|")]
        else:
            listed = [cell]
        wanted = "a text, a number or a list of them"
        found = [
            self._text(each, column, option, wanted)
            for each in listed
            if each is not None or isinstance(cell, list)
        ]
        return [text for text in found if text.strip()]

    def _text(self, cell: Any, column: str, option: str, wanted: str) -> str:
        if not _plain(cell):
            raise self._other(cell, column, option, wanted)
        return str(cell)

    def _other(self, cell: Any, column: str, option: str, wanted: str) -> DataError:
        shown = msgspec.json.encode(cell).decode(errors="replace")
        shown = shown if len(shown) <= 60 else f"{shown[:60]}…"
        return DataError(
            f"the column {column!r} holds {shown}; `{option}` takes {wanted}", where=self.where
        )


def _image(folder: Path, path: str, where: str) -> Image:
    return Image(str(inside(folder, path, where=where)))


def _plain(value: Any) -> bool:
    return isinstance(value, (str, int, float)) and not isinstance(value, bool)
