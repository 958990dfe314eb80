"""Text files that people write and programs export: UTF-8, or what a byte order mark says."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from emu2eval.errors import DataError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16's, which it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def encoding_of(path: Path) -> str:
    """What `opened` reads the file as."""
    with path.open("rb") as file:
        return _marked(file.read(8))


def _marked(start: bytes) -> str:
    return next((name for mark, name in _MARKS if start.startswith(mark)), "utf-8")


@contextmanager
def opened(path: Path) -> Iterator[TextIO]:
    """The file as text, without a byte order mark, ends of lines as they are.

    Raises DataError where it is in another encoding, also while it is read inside.
    """
    with path.open("rb") as file:
        start = file.read(512)
        file.seek(0)
        encoding = _marked(start)
        if encoding == "utf-8" and b"\0" in start:
            raise DataError(
                "the file is not UTF-8 text: it contains zero bytes, like UTF-16 without a byte order mark",
                where=path,
                hint=_again("UTF-16", path),
            )
        try:
            with io.TextIOWrapper(file, encoding, newline="") as text:
                yield text
        except UnicodeError as error:
            raise _undecodable(path, encoding, error) from None


def read_text(path: Path) -> str:
    """The whole file, see `opened`; ends of lines as they are."""
    with opened(path) as text:
        return text.read()


def _undecodable(path: Path, encoding: str, error: UnicodeError) -> DataError:
    if encoding.startswith("utf-8"):
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    line.decode()
                except UnicodeDecodeError as found:
                    byte = line[found.start : found.start + 1]
                    read = byte.decode("cp1252", errors="replace")
                    return DataError(
                        f"the file is not UTF-8 text: it contains the byte 0x{byte.hex()}, which "
                        f"is {read!r} in "
                        "Windows-1252 (Latin-1)",
                        where=f"{path}:{number}",
                        hint=_again("WINDOWS-1252", path),
                    )
    return DataError(
        f"the file starts like {encoding.upper()} text but is not valid: {error}",
        where=path,
        hint="save it again as UTF-8",
    )


def _again(encoding: str, path: Path) -> str:
    return (
        f"save it as UTF-8 (in Excel: CSV UTF-8), or: iconv -f {encoding} -t UTF-8 {path.name} > new"
        f"{path.suffix}"
    )
