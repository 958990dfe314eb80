"""What many samples share, each once: texts, demonstrations, pictures. A page refers to them by number."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from emu2eval import pictures
from emu2eval.errors import StoreError, UserError
from emu2eval.types import Part, Picture, Turn, Video

SIDE = 256
"""Pixels of the longer side of a thumbnail."""
_LOSSLESS = 64
"""Up to so many pixels a side every pixel counts, and a lossless picture is small anyway."""


class Thumbnails:
    """Small copies of pictures, one a digest, in a folder or, without one, as data: URLs.

    entries: [source or None, width, height, name or what is wrong] of each; sizes are the original's.
    """

    def __init__(self, folder: Path | None):
        self.folder = folder
        self.entries: list[list[Any]] = []
        self._places: dict[str, int] = {}

    def place(self, picture: Picture) -> int:
        """The number of the picture's entry. One that cannot be opened has an entry that says why."""
        try:
            digest = pictures.digest(picture)
        except UserError as error:
            broken = _broken(error)
            return self._add(f"!{pictures.where(picture)}", lambda: broken)
        return self._add(digest, lambda: self._entry(picture, digest))

    def _add(self, key: str, make: Callable[[], list[Any]]) -> int:
        if key not in self._places:
            self._places[key] = len(self.entries)
            self.entries.append(make())
        return self._places[key]

    def _entry(self, picture: Picture, digest: str) -> list[Any]:
        try:
            info = pictures.info(picture)
            source = self._source(picture, digest)
        except StoreError:
            raise
        except UserError as error:
            return _broken(error)
        return [source, info.width, info.height, picture.name]

    def _source(self, picture: Picture, digest: str) -> str:
        if self.folder is None:
            return "data:image/webp;base64," + base64.b64encode(encoded(picture)).decode()
        file = self.folder / f"{digest[:32]}.webp"
        if not file.exists():
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                temporary = file.with_suffix(".part")
                temporary.write_bytes(encoded(picture))
                temporary.replace(file)
            except OSError as error:
                raise StoreError(
                    f"the pictures of the page cannot be written ({error.strerror})", where=file
                ) from None
        return f"{self.folder.name}/{file.name}"


def encoded(picture: Picture) -> bytes:
    """The thumbnail as WebP. Always encoded anew: nothing that came with a picture gets into the page."""
    image = pictures.load(picture)
    image.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=80, lossless=max(image.size) <= _LOSSLESS)
    return buffer.getvalue()


def _broken(error: UserError) -> list[Any]:
    return [None, 0, 0, error.what]


class Tables:
    """Numbers for texts, demonstrations and pictures.

    A part of a prompt is a number: n of a text, -1 - n of a picture; the list of its frames for a video.
    """

    def __init__(self, thumbnails: Thumbnails):
        self.thumbnails = thumbnails
        self._texts: dict[str, int] = {}
        self._turns: dict[Turn, int] = {}
        self._shown: list[list[list[Any]]] = []

    def text(self, text: str) -> int:
        return self._texts.setdefault(text, len(self._texts))

    def maybe(self, text: str | None) -> int | None:
        return None if text is None else self.text(text)

    def picture(self, picture: Picture) -> int:
        return -1 - self.thumbnails.place(picture)

    def part(self, part: Part) -> Any:
        if isinstance(part, str):
            return self.text(part)
        if isinstance(part, Video):
            return [self.picture(frame) for frame in part.frames]
        return self.picture(part)

    def parts(self, parts: Iterable[Part]) -> list[Any]:
        return [self.part(part) for part in parts]

    def turn(self, turn: Turn) -> int:
        if turn not in self._turns:
            self._turns[turn] = len(self._turns)
            self._shown.append([self.parts(turn.ask), self.parts(turn.reply)])
        return self._turns[turn]

    def content(self) -> dict[str, Any]:
        return {
            "texts": list(self._texts),
            "turns": self._shown,
            "pictures": self.thumbnails.entries,
        }
