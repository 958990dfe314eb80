"""What many samples share, each once: texts, demonstrations, images. A page refers to them by number."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from emu2eval.errors import StoreError, UserError
from emu2eval.media import images
from emu2eval.types import Image, Part, Turn, Video

SIDE = 320
"""Pixels of the longer side of a thumbnail."""
_LOSSLESS = 64
"""Up to so many pixels a side every pixel counts, and a lossless image is small anyway."""

Keep = Callable[[Image, str], str]
"""An image and its digest -> where the page finds it."""


class Thumbnails:
    """The images of a page, one a digest. Copies are made on threads while others are found.

    keep: makes the small copy, on any thread.
    """

    def __init__(self, keep: Keep):
        self.keep = keep
        self._made: list[Future[list[Any]]] = []
        self._places: dict[str, int] = {}
        self._threads = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="emu2eval images")

    def __len__(self) -> int:
        return len(self._made)

    def place(self, image: Image) -> int:
        """The number of the image's entry. One that cannot be opened has an entry that says why."""
        try:
            digest = images.digest(image)
        except UserError as error:
            return self._add(f"!{images.where(image)}", _broken, error)
        return self._add(digest, self._entry, image, digest)

    def entries(self) -> list[list[Any]]:
        """[source or None, width, height, name or what is wrong] of each, once all are made; sizes are the
        originals'. Raises StoreError where a copy cannot be kept."""
        try:
            return [made.result() for made in self._made]
        finally:
            self._threads.shutdown(cancel_futures=True)

    def _add(self, key: str, make: Callable[..., list[Any]], *given: Any) -> int:
        if key not in self._places:
            self._places[key] = len(self._made)
            self._made.append(self._threads.submit(make, *given))
        return self._places[key]

    def _entry(self, image: Image, digest: str) -> list[Any]:
        try:
            info = images.info(image)
            source = self.keep(image, digest)
        except StoreError:
            raise
        except UserError as error:
            return _broken(error)
        return [source, *info.upright, image.name]


def inside(image: Image, digest: str) -> str:
    """Keeps images in the page itself."""
    data = base64.b64encode(encoded(image)).decode()
    return f"data:image/{kind(image)};base64,{data}"


def beside(folder: Path) -> Keep:
    """Keeps images in a folder beside the page. Raises StoreError where it cannot be written."""

    def keep(image: Image, digest: str) -> str:
        file = folder / f"{digest[:32]}.{kind(image)}"
        if not file.exists():
            try:
                folder.mkdir(parents=True, exist_ok=True)
                temporary = file.with_suffix(".part")
                temporary.write_bytes(encoded(image))
                temporary.replace(file)
            except OSError as error:
                raise StoreError(
                    f"cannot write the page's images ({error.strerror})", where=file
                ) from None
        return f"{folder.name}/{file.name}"

    return keep


def kind(image: Image) -> str:
    """The format of its copies: WebP without loss of small ones, JPEG of others, which takes a tenth of
    WebP's time for a tenth more bytes."""
    return "webp" if max(images.info(image).upright) <= _LOSSLESS else "jpeg"


def encoded(image: Image, side: int = SIDE) -> bytes:
    """A small copy. Always re-encoded, so that nothing else in an image file gets into the page."""
    pixels = images.load(image, side)
    pixels.thumbnail((side, side))
    pixels.info.clear()  # such as a comment, which would be written again
    buffer = io.BytesIO()
    if kind(image) == "webp":
        pixels.save(buffer, "WEBP", method=1, lossless=True)
    else:
        pixels.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _broken(error: UserError) -> list[Any]:
    return [None, 0, 0, error.what]


class Tables:
    """Numbers for the texts and demonstrations of one set of samples, and for the images of the page.

    A part of a prompt is a number: n of a text, -1 - n of an image; the list of its frames for a video.
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

    def image(self, image: Image) -> int:
        return -1 - self.thumbnails.place(image)

    def part(self, part: Part) -> Any:
        if isinstance(part, str):
            return self.text(part)
        if isinstance(part, Video):
            return [self.image(frame) for frame in part.frames]
        return self.image(part)

    def parts(self, parts: Iterable[Part]) -> list[Any]:
        return [self.part(part) for part in parts]

    def turn(self, turn: Turn) -> int:
        if turn not in self._turns:
            self._turns[turn] = len(self._turns)
            self._shown.append([self.parts(turn.ask), self.parts(turn.reply)])
        return self._turns[turn]

    def content(self) -> dict[str, Any]:
        return {"texts": list(self._texts), "turns": self._shown}
