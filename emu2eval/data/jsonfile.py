"""Official JSON files of a known shape: decoded into structs, which leave out what is not asked for."""

from __future__ import annotations

import codecs
import mmap
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from emu2eval.data.damaged import damaged

File = TypeVar("File")


def parse(path: Path, kind: type[File]) -> File:
    """The file as a `kind`. It is mapped and not read: some of these files have more than a gigabyte.

    Raises DataError where the file has another shape, FileNotFoundError where it is not there.
    """
    with path.open("rb") as file:
        if not path.stat().st_size:
            raise damaged(path, b"", "it is empty")
        # Unmapped when nothing points into it any more; parts of the kind msgspec.Raw do.
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        marked = data[:3] == codecs.BOM_UTF8
        return msgspec.json.decode(memoryview(data)[3:] if marked else data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise damaged(path, data[:512], error) from None


def part(raw: msgspec.Raw, kind: type[File], path: Path, at: Callable[[], str]) -> File:
    """A part of the file at the path that was left undecoded, as a `kind`.

    at: where it stands, such as "$.annotations[2]"; asked only for the DataError that is raised.
    """
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        # msgspec says where within the part: at `$.image_id`.
        said = str(error).replace("`$", f"`{at()}")
        raise damaged(path, bytes(raw)[:80], said) from None
