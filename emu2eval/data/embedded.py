"""Images as cells of data give them: a path, bytes, base64, or {bytes, path}."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from emu2eval.data.paths import inside
from emu2eval.errors import DataError
from emu2eval.media.tsvfile import PREFIX, SHORTEST
from emu2eval.types import Image

Find = Callable[[bytes], int | None]
"""Where in a file these bytes of a row stand."""

_URI = re.compile(r"data:[\w/+.;=-]{0,100}?;base64,")
# PNG, JPEG, GIF, WebP, BMP, TIFF of either order, AVIF.
_MAGIC = ("iVBORw0KGgo", "/9j/", "R0lGOD", "UklGR", "Qk", "SUkq", "TU0A", "AAAA")
_ALPHABET = re.compile(r"[A-Za-z0-9+/\s]+={0,2}\s*")
_LONGEST_NAME = 255
"""Bytes of a file's name."""


def is_base64(text: str) -> bool:
    """Whether a text is an image in base64, and no path.

    >>> is_base64("photos/cat.png"), is_base64("/9j/" + 100 * "A"), is_base64("data:image/png;base64,iVBO")
    (False, True, True)
    """
    if text.startswith("data:"):
        return _URI.match(text) is not None
    if len(text) <= SHORTEST:
        return False
    no_name = len(text.partition("/")[0]) > _LONGEST_NAME
    return (no_name or text.startswith(_MAGIC)) and _ALPHABET.fullmatch(text) is not None


def image(
    cell: Any, folder: Path, where: str, *, file: Path | None = None, find: Find | None = None
) -> Image | None:
    """The image of one cell, None of an empty one. Raises DataError.

    file, find: where the row stands, so that a large base64 text is read again when it is wanted.
    """
    match cell:
        case None | "" | b"":
            return None
        case Image():
            return cell
        case bytes():
            return Image(data=cell)
        case str():
            return _text(cell, folder, where, file, find)
        case Mapping() if cell.get("bytes"):
            inner = cell["bytes"]
            if isinstance(inner, list):
                return Image(data=_listed(inner, where))
            if isinstance(inner, str) and not is_base64(inner):
                return _decoded(inner, where)
            return image(inner, folder, where, file=file, find=find)
        case Mapping() if isinstance(cell.get("path"), str | None) and (
            "path" in cell or "bytes" in cell
        ):
            return image(cell.get("path"), folder, where)
    raise DataError("not an image: expected a path, base64 or {bytes, path}", where=where)


def below(folder: Path, path: str, where: str) -> Path:
    """A file below the folder; an absolute path will do where it leads there. Raises DataError."""
    if "://" in path[:12]:
        raise DataError(
            f"{path[:80]!r} is a URL, but images are only read from files",
            where=where,
            hint="download the images and refer to the files",
        )
    if path.startswith("/"):
        for top in (folder.absolute(), folder.resolve()):
            if path.startswith(f"{top}/"):
                path = path[len(str(top)) + 1 :]
                break
    return inside(folder, path, where=where)


def _text(text: str, folder: Path, where: str, file: Path | None, find: Find | None) -> Image:
    if not is_base64(text):
        return Image(str(below(folder, text, where)))
    bare = text[len(found[0]) :] if (found := _URI.match(text)) else text
    at = find(bare.encode()) if find is not None else None
    if at is not None and file is not None:
        return Image(str(file), member=f"{PREFIX}{at}/{len(bare)}")
    return _decoded(bare, where)


def _decoded(text: str, where: str) -> Image:
    try:
        return Image(data=b64decode("".join(text.split()), validate=True))
    except (binascii.Error, ValueError) as error:
        raise DataError(f"the image is not base64: {error}", where=where) from None


def _listed(numbers: list[Any], where: str) -> bytes:
    """Bytes written as a list of numbers, as pandas does in JSON."""
    try:
        return bytes(numbers)
    except (TypeError, ValueError):
        raise DataError("the image's bytes are not numbers from 0 to 255", where=where) from None
