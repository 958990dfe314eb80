"""Rows of data, whatever file they stand in, and what their cells hold for a use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Any, Protocol

import msgspec

from emu2eval.data import embedded
from emu2eval.data.embedded import Find
from emu2eval.errors import DataError, UnknownName
from emu2eval.types import Image


@dataclass(frozen=True, slots=True)
class DataRow:
    """One row. where: for messages, such as `file:line`; cells: by column, an image perhaps already an Image.

    separated: a cell is a text in which `|` can stand between several (CSV).
    file, find: see `embedded.image`.
    """

    where: str
    cells: Mapping[str, Any]
    separated: bool = False
    file: Path | None = None
    find: Find | None = None

    def cell(self, column: str, option: str) -> Any:
        """The cell of a column, None where it is empty; raises UnknownName where there is no such column."""
        if column in self.cells:
            return self.cells[column]
        value: Any = self.cells
        done: list[str] = []
        for step in column.split("."):
            value = self._inside(value, step, column, option, done)
            done.append(step)
        return value

    def _inside(self, value: Any, step: str, column: str, option: str, done: list[str]) -> Any:
        if value is None:
            return None
        if isinstance(value, list):
            if step.isdecimal():
                return value[int(step)] if int(step) < len(value) else None
            return [self._inside(item, step, column, option, done) for item in value]
        if isinstance(value, Mapping) and step in value:
            return value[step]
        there = value if isinstance(value, Mapping) else ()
        known = [".".join((*done, str(name))) for name in there]
        raise self._unknown(column, option, known or [".".join(done) + " (nothing inside)"])

    def _unknown(self, column: str, option: str, known: list[str]) -> UnknownName:
        there = ", ".join(map(str, self.cells)) or "none"
        if self.separated and len(self.cells) == 1 and ";" in there:
            there += "; the file uses semicolons as separators, but .csv needs commas"
        return UnknownName(
            "column",
            column,
            known,
            where=self.where,
            hint=f"set `{option}` in the reader's options; available columns: {there}"
            + ("; `answer: false` where answers are hidden" if option == "answer" else ""),
        )

    def name(self, template: str) -> str:
        """The id that a column holds, or a text with columns in braces."""
        if "{" not in template:
            return self._id(template)
        try:
            parts = list(Formatter().parse(template))
        except ValueError as error:
            raise DataError(f"the id {template!r}: {error}", where=self.where) from None
        return "".join(text + (self._id(name) if name else "") for text, name, _, _ in parts)

    def _id(self, column: str) -> str:
        cell = self.cell(column, "id")
        if cell is None or cell == "":
            raise DataError(f"the row has no id in its column {column!r}", where=self.where)
        if isinstance(cell, bool):
            raise self.other(cell, column, "id", "a text or a number")
        return self._one(cell, column, "id", "a text or a number")

    def text(self, column: str, option: str) -> str:
        """An empty cell is an empty text."""
        value = self.cell(column, option)
        return "" if value is None else self._one(value, column, option, "a text or a number")

    def label(self, column: str, option: str) -> str | None:
        """What a row counts in, None where the cell is empty; for clusters, of a list the first."""
        cell = self.cell(column, option)
        if isinstance(cell, list) and option == "cluster":
            cell = next(iter(cell), None)
        if cell is None or cell == "":
            return None
        return self._one(cell, column, option, "a text, a number, true or false")

    def items(self, column: str, option: str, *, split: bool = True) -> list[Any]:
        """What a cell lists, or the cell alone; None and empty texts stay. split: as in CSV, at `|`."""
        cell = self.cell(column, option)
        if isinstance(cell, list):
            return cell
        if split and self.separated and isinstance(cell, str):
            return [text.strip() for text in cell.split("|")]
        return [cell]

    def texts(self, column: str, option: str, *, split: bool = True) -> list[str]:
        """The texts of a cell, those that are empty left out. Raises DataError for another kind inside."""
        wanted = "a text, a number or a list of them"
        listed = self.items(column, option, split=split)
        found = [
            self._one(each, column, option, wanted)
            for each in listed
            if each is not None or len(listed) > 1
        ]
        return [text for text in found if text.strip()]

    def images(self, column: str, option: str, folder: Path) -> list[Image]:
        """The images of a cell, empty ones left out."""
        cell = self.cell(column, option)
        found = []
        for each in cell if isinstance(cell, list) else [cell]:
            if not isinstance(each, Image | str | bytes | Mapping | None):
                raise self.other(each, column, option, "a path or a list of paths")
            if isinstance(each, Mapping) and not {"bytes", "path"} & each.keys():
                raise self.other(each, column, option, "paths, bytes, base64 or {bytes, path}")
            image = embedded.image(each, folder, self.where, file=self.file, find=self.find)
            if image is not None:
                found.append(image)
        return found

    def paths(self, column: str, option: str) -> list[str]:
        """Paths of files, empty ones left out."""
        cell = self.cell(column, option)
        listed = cell if isinstance(cell, list) else [cell]
        found = [each.get("path") if isinstance(each, Mapping) else each for each in listed]
        for path in found:
            if path is not None and not isinstance(path, str):
                raise self.other(path, column, option, "a path or a list of paths")
        return [path for path in found if path]

    def plain(self) -> dict[str, str]:
        """All cells that are texts or numbers, empty ones as empty texts."""
        return {
            str(name): "" if cell is None else _said(cell)
            for name, cell in self.cells.items()
            if cell is None or _plain(cell)
        }

    def _one(self, cell: Any, column: str, option: str, wanted: str) -> str:
        if not _plain(cell):
            raise self.other(cell, column, option, wanted)
        return _said(cell)

    def other(self, cell: Any, column: str, option: str, wanted: str) -> DataError:
        try:
            shown = msgspec.json.encode(cell).decode(errors="replace")
        except (TypeError, ValueError):
            shown = f"an object of type {type(cell).__name__}"
        shown = shown if len(shown) <= 60 else f"{shown[:60]}…"
        inside = isinstance(cell, list | Mapping)
        return DataError(
            f"the column {column!r} contains {shown}, but `{option}` needs {wanted}",
            where=self.where,
            hint="`a.b` refers to the column b inside a, `a.0` to the first item of a list"
            if inside
            else None,
        )


class RowSource(Protocol):
    """Where rows come from: read again for each call of `rows`, in the order of the files."""

    def rows(self) -> Iterator[DataRow]: ...

    def classes(self, column: str) -> Sequence[str]:
        """The names of the classes where the column holds one of a closed set, else none."""
        ...


def same(cell: Any, wanted: Any) -> bool:
    """Whether a cell holds a value that a task's file names: 3 and "3" are one, true is `true`.

    >>> same("3", 3), same(True, "true"), same(None, "None"), same("a", ["b", "a"])
    (True, True, False, True)
    """
    if isinstance(wanted, list):
        return any(same(cell, each) for each in wanted)
    if cell is None or wanted is None:
        return cell is wanted
    return bool(cell == wanted) or (
        _plain(cell) and _plain(wanted) and _said(cell) == _said(wanted)
    )


_PLAIN = frozenset({str, int, float, bool})


def _plain(value: Any) -> bool:
    return type(value) in _PLAIN or not isinstance(
        value, list | tuple | Mapping | bytes | Image | type(None)
    )


def _said(value: Any) -> str:
    if type(value) is str:
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value != value:
        return ""  # what pandas writes for an empty cell
    return str(value)
