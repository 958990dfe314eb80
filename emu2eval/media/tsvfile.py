"""Tables whose cells hold images as base64 text: the rows without them, the images read late."""

from __future__ import annotations

import binascii
import csv
from base64 import b64decode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from emu2eval.errors import DataError, ImageError
from emu2eval.types import Image

SHORTEST = 64
"""A cell of no more characters is no image: such files name there the row whose image it shares."""

_LARGEST = 1 << 28
PREFIX = "base64/"


@dataclass(frozen=True)
class TableRow:
    """where: `file:line`; cells: the texts by column; images: by column, where a cell holds one."""

    where: str
    cells: dict[str, str]
    images: dict[str, Image]


def rows(path: Path, columns: Sequence[str]) -> Iterator[TableRow]:
    """The rows of a tab-separated file; `columns` are those that hold images.

    One row is held at a time. Raises DataError for a row that does not fit the header.
    """
    with large_cells(), path.open("rb") as file:
        lines = _Lines(file)
        reader = csv.reader(lines, delimiter="\t")
        try:
            header = next(reader, [])
            lines.take()
            for values in reader:
                start, raw = lines.take()
                where = f"{path}:{reader.line_num}"
                if not values:
                    continue
                if len(values) != len(header):
                    raise DataError(
                        f"the row has {len(values)} cells, but the header has {len(header)}",
                        where=where,
                    )
                cells = dict(zip(header, values, strict=True))
                shown = {}
                for column in columns:
                    text = cells.get(column, "")
                    if len(text) > SHORTEST:
                        del cells[column]
                        at = start + raw.index(text.encode())
                        shown[column] = Image(str(path), member=f"{PREFIX}{at}/{len(text)}")
                yield TableRow(where, cells, shown)
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataError(
                f"the file is not a text table: {error}",
                where=f"{path}:{reader.line_num}",
                hint="download the file again",
            ) from None


@contextmanager
def large_cells() -> Iterator[None]:
    """Tables are read whose cells hold more than 128 KB, Python's own limit: images, long documents."""
    before = csv.field_size_limit(_LARGEST)  # one for the whole process
    try:
        yield
    finally:
        csv.field_size_limit(before)


class _Lines:
    """Decoded lines for the csv module, which remember where in the file they were."""

    def __init__(self, file: BinaryIO):
        self.file = file
        self.at = 0
        self.raw = b""

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self.file.readline()
        if not line:
            raise StopIteration
        first = not self.at and not self.raw
        self.raw += line
        return line.decode("utf-8-sig" if first else "utf-8")

    def take(self) -> tuple[int, bytes]:
        """(offset, bytes) of the lines given since the last call: those of one row."""
        start, raw = self.at, self.raw
        self.at, self.raw = start + len(raw), b""
        return start, raw


def read_cell(path: str, name: str) -> bytes:
    """The encoded image at a `member` of a file. Raises ImageError or OSError."""
    offset, length = (int(part) for part in name.removeprefix(PREFIX).split("/"))
    with Path(path).open("rb") as file:
        file.seek(offset)
        text = file.read(length)
    try:
        return b64decode(b"".join(text.split()), validate=True)
    except binascii.Error as error:
        raise ImageError(
            f"the image is not base64: {error}",
            where=f"{path}#{name}",
            hint="download the file again",
        ) from None
