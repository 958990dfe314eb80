"""Images inside uncompressed tar archives, by their place in the file; nothing is ever unpacked."""

from __future__ import annotations

from pathlib import Path

from emu2eval.errors import ImageError
from emu2eval.types import Image

PREFIX = "tar:"


def image(path: str | Path, offset: int, size: int) -> Image:
    """The member whose `size` bytes begin at `offset`."""
    return Image(str(path), member=f"{PREFIX}{offset}/{size}")


def read_cell(path: str, name: str) -> bytes:
    """The encoded image at a `member` of an archive. Raises ImageError or OSError."""
    offset, size = (int(part) for part in name.removeprefix(PREFIX).split("/"))
    with Path(path).open("rb") as file:
        file.seek(offset)
        data = file.read(size)
    if len(data) != size:
        raise ImageError("the archive ends before this image does", where=f"{path}#{name}")
    return data
