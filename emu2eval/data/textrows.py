"""Rows of text files: CSV, TSV, JSON lines and JSON."""

from __future__ import annotations

import csv
import mmap
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TextIO

import msgspec

from emu2eval.data.damaged import damaged
from emu2eval.data.rows import DataRow
from emu2eval.data.textfile import encoding_of, opened
from emu2eval.errors import DataError
from emu2eval.media.tsvfile import large_cells

_decode = msgspec.json.Decoder().decode
ENDINGS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv")
_LARGEST_LINE = 1 << 28


def rows(path: Path, inside: str | None = None, *, large: bool = True) -> Iterator[DataRow]:
    """The rows of a file. inside: in a .json file, the key (dotted) of the list of rows; None = the file is
    the list, or an object with one list in it. large: cells of a .csv file may hold more than 128 KB.

    Raises DataError with `file:line`.
    """
    suffix = path.suffix.lower()
    if suffix not in ENDINGS:
        raise DataError(
            f"a table must be a {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]} file",
            where=path,
            hint="rename or convert it",
        )
    if suffix == ".json":
        yield from _json(path, inside)
    elif suffix in (".csv", ".tsv"):
        with large_cells() if large else nullcontext():
            yield from _separated(path, "\t" if suffix == ".tsv" else ",")
    else:
        yield from _lines(path)


class _Located:
    """The lines of a file, and where in it some bytes of the latest row stand, if it is UTF-8.

    The bytes are counted as they are read: nothing is opened twice unless an image is wanted.
    """

    def __init__(self, lines: TextIO, path: Path):
        self.lines = iter(lines)
        self.utf8 = encoding_of(path).startswith("utf-8")
        self.at = 3 if encoding_of(path) == "utf-8-sig" else 0
        self.raw: list[str] = []

    def __iter__(self) -> _Located:
        return self

    def __next__(self) -> str:
        line = next(self.lines)
        if len(line) > _LARGEST_LINE:
            raise csv.Error(f"a line of {len(line):,} characters")
        self.raw.append(line)
        return line

    def take(self) -> tuple[int, str]:
        """(offset, text) of the lines since the last call: those of one row."""
        text = "".join(self.raw)
        self.raw.clear()
        start = self.at
        self.at += len(text) if text.isascii() else len(text.encode())
        return start, text


def _find(start: int, text: str) -> Any:
    def find(wanted: bytes) -> int | None:
        at = text.encode().find(wanted)
        return start + at if at >= 0 else None

    return find


def _lines(path: Path) -> Iterator[DataRow]:
    with opened(path) as lines:
        located = _Located(lines, path)
        for number, line in enumerate(located, 1):
            start, text = located.take()
            if not line.strip():
                continue
            where = f"{path}:{number}"
            try:
                row = _decode(line)
            except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
                raise DataError(f"the line is not JSON: {error}", where=where) from None
            if not isinstance(row, dict):
                raise DataError("the line is not a JSON object", where=where)
            find = _find(start, text) if located.utf8 else None
            yield DataRow(where, row, file=path, find=find)


def _separated(path: Path, separator: str) -> Iterator[DataRow]:
    with opened(path) as lines:
        located = _Located(lines, path)
        reader = csv.reader(located, delimiter=separator)
        last = 0
        try:
            names = next(reader, [])
            last = reader.line_num
            located.take()
            repeated = next((name for name in names if names.count(name) > 1), None)
            if repeated is not None:
                raise DataError(f"two columns are named {repeated!r}", where=f"{path}:1")
            for values in reader:
                start, text = located.take()
                last = reader.line_num
                where = f"{path}:{last}"
                if not values:
                    continue
                if len(values) != len(names):
                    raise DataError("the row has more or fewer cells than the header", where=where)
                cells = dict(zip(names, values, strict=True))
                find = _find(start, text) if located.utf8 else None
                yield DataRow(where, cells, separated=True, file=path, find=find)
        except csv.Error as error:
            raise DataError(
                f"the file is not a text table: {error}",
                where=f"{path}:{last + 1}",
                hint="look for an unclosed quotation mark, or a wrong file extension",
            ) from None


def _json(path: Path, inside: str | None) -> Iterator[DataRow]:
    """DataRow by row: the file is mapped, and what is not asked for is never built."""
    with path.open("rb") as file:
        if not path.stat().st_size:
            raise damaged(path, b"", "it is empty")
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    marked = 3 if data[:3] == b"\xef\xbb\xbf" else 0
    raw = msgspec.Raw(memoryview(data)[marked:])
    at = 0
    here = "$"
    for step in inside.split(".") if inside else ():
        keys = _part(raw, dict[str, msgspec.Raw], path, here)
        if step not in keys:
            raise _no_list(path, here, keys, step)
        raw, here = keys[step], f"{here}.{step}"
    if not inside and _begins(raw) == b"{":
        keys = _part(raw, dict[str, msgspec.Raw], path, here)
        lists = [k for k, v in keys.items() if _begins(v) == b"["]
        if len(lists) != 1:
            raise _no_list(path, here, keys, None)
        raw, here = keys[lists[0]], f"{here}.{lists[0]}"
    for number, each in enumerate(_part(raw, list[msgspec.Raw], path, here)):
        where = f"{path}: {here}[{number}]"
        row = _part(each, dict[str, Any], path, f"{here}[{number}]")

        def find(wanted: bytes) -> int | None:
            nonlocal at
            found = data.find(wanted, at)
            at = max(at, found)
            return found if found >= 0 else None

        yield DataRow(where, row, file=path, find=find)


def _begins(raw: msgspec.Raw) -> bytes:
    return bytes(memoryview(raw)[:512]).lstrip()[:1]


def _part(raw: msgspec.Raw, kind: Any, path: Path, at: str) -> Any:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        said = str(error).replace("`$", f"`{at}")
        raise damaged(path, bytes(memoryview(raw)[:512]), said) from None


def _no_list(path: Path, at: str, keys: Mapping[str, object], step: str | None) -> DataError:
    there = ", ".join(list(keys)[:12]) or "none"
    lacks = f"has no key {step!r}" if step else "must contain exactly one list of rows"
    return DataError(
        f"{at} {lacks}; its keys are: {there}",
        where=path,
        hint="name the list with `rows: KEY` in the options, or `rows: a.b` for a nested one",
    )
