"""What is damaged in a benchmark's files: a row that cannot be asked, or a file that is something else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from emu2eval.errors import DataError
from emu2eval.types import Sample

_AGAIN = "download the file again and unpack all of it"


def damaged(path: Path, data: bytes, error: Any) -> DataError:
    """The error for a data file that does not parse. data: its beginning at least."""
    return DataError(f"unexpected content in the file: {error}", where=path, hint=hint(data))


def spared(sample_id: str, read: Callable[[], Sample]) -> Sample:
    """The sample; where its row is not what it should be, one that says why, so that the others can be asked.

    `data.load` refuses a split in which many are so: then the file as a whole is wrong.
    """
    try:
        return read()
    except DataError as error:
        place = f" ({error.where})" if error.where is not None else ""
        return Sample(sample_id, unreadable=error.what + place)


def hint(data: bytes) -> str:
    """
    >>> hint(b"PK")
    'this is a zip archive itself: unpack it'
    """
    start = data[:512].lstrip().lower()
    if not data:
        return "the file is empty; download it again"
    if data[:2] == b"PK":
        return "the file is a zip archive; unpack it"
    if data[:2] == b"\x1f\x8b":
        return "the file is a gzip archive; unpack it (gunzip, or tar -xzf)"
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<body")):
        return (
            "the file is a saved web page or error message; open it to see what the server said "
            "(often a login page or a moved URL), then download the file again"
        )
    if start.startswith(b"version https://git-lfs"):
        return "this is a Git LFS pointer, not the file; run git lfs pull, or use `hf download`"
    return _AGAIN
