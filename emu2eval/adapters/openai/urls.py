"""An image as a URL that a server can read: made once, kept while there is room."""

from __future__ import annotations

import base64
import json
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from urllib.parse import quote

from emu2eval.adapters.openai.settings import FORMATS
from emu2eval.media import images
from emu2eval.media.images import ImageInfo
from emu2eval.types import Image

KEPT_BYTES = 128 << 20
"""Encoded images that are kept, so that those of fixed demonstrations, or of a small pool, are made once."""


@dataclass(frozen=True, slots=True)
class Url:
    """As it stands between the quotes of a JSON text: its beginning, and an image's bytes in base64."""

    head: bytes
    data: bytes = b""

    def __len__(self) -> int:
        return len(self.head) + len(self.data)

    def __str__(self) -> str:
        return str(json.loads(b'"%b%b"' % (self.head, self.data)))


@dataclass
class ImageUrls:
    """An image as a URL that a server can read.

    One of `formats` goes byte for byte, as base64, if every decoder makes of it what a local model is shown;
    anything else is decoded (upright, RGB, over white) and goes as PNG, which loses nothing.
    formats: what the server reads beside PNG, as Pillow names them.
    max_side: an image with a longer side is shrunk to it first (Lanczos).
    root, base: images below the folder `root` go as the URL below `base` instead of their bytes.
    """

    max_side: int | None = None
    root: str | None = None
    base: str | None = None
    formats: tuple[str, ...] = FORMATS
    _kept: OrderedDict[str, Future[Url]] = field(default_factory=OrderedDict, repr=False)
    _size: int = 0
    _lock: Lock = field(default_factory=Lock, repr=False)

    def url(self, image: Image) -> Url:
        """Whoever asks for one that is just being made, on another thread, waits for it."""
        served = self._served(image)
        if served is not None:
            return Url(json.dumps(served)[1:-1].encode())
        digest = images.digest(image)
        with self._lock:
            known = self._kept.get(digest)
            if known is None:
                made: Future[Url] = Future()
                self._kept[digest] = made
            else:
                self._kept.move_to_end(digest)
        if known is not None:
            return known.result()
        try:
            url = self._made(image)
        except BaseException as error:
            with self._lock:
                del self._kept[digest]
            made.set_exception(error)
            raise
        made.set_result(url)
        with self._lock:
            self._size += len(url)
            self._forget()
        return url

    def _forget(self) -> None:
        """Drops those that were not asked for longest until the others have room."""
        while self._size > KEPT_BYTES and len(self._kept) > 1:
            digest, oldest = next(iter(self._kept.items()))
            if not oldest.done():
                return  # whoever makes it comes by here, too
            del self._kept[digest]
            self._size -= len(oldest.result())

    def _served(self, image: Image) -> str | None:
        if self.root is None or self.base is None or image.path is None:
            return None
        if image.member is not None or image.frame is not None:
            return None  # the file at the path is not the image
        path, root = Path(image.path).resolve(), Path(self.root).resolve()
        if not path.is_relative_to(root) or not self._as_it_is(images.info(image)):
            return None
        images.confirm(image)
        return f"{self.base.rstrip('/')}/{quote(path.relative_to(root).as_posix())}"

    def _made(self, image: Image) -> Url:
        kind, data = self._encoded(image)
        return Url(f"data:image/{kind};base64,".encode(), base64.b64encode(data))

    def _encoded(self, image: Image) -> tuple[str, bytes]:
        info = images.info(image)
        if self._as_it_is(info):
            return info.format.lower(), images.read(image)
        pixels = images.load(image)
        if not self._small(info):
            from PIL import Image as PILImage

            side = self.max_side or 0
            pixels.thumbnail((side, side), PILImage.Resampling.LANCZOS)
        return "png", images.read(images.from_pil(pixels))

    def _as_it_is(self, info: ImageInfo) -> bool:
        """Whether the server makes of the file's bytes what a local model is shown."""
        known = info.format == "PNG" or info.format in self.formats
        return known and info.plain and self._small(info)

    def _small(self, info: ImageInfo) -> bool:
        return self.max_side is None or max(info.width, info.height) <= self.max_side
