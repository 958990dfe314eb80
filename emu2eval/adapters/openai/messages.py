"""Prompt -> chat messages: text and images in the order of the prompt, nothing left out."""

from __future__ import annotations

import base64
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import quote

from emu2eval.adapters.openai.settings import FORMATS, Layout
from emu2eval.media import images
from emu2eval.media.images import ImageInfo
from emu2eval.types import Image, Part, Prompt, Request, Video

Message = dict[str, Any]

REMEMBERED_BYTES = 64 << 20
"""Encoded images that are kept, so that those of fixed demonstrations are encoded once."""


@dataclass
class ImageUrls:
    """An image as a URL that a server can read.

    One of `formats` goes byte for byte, as base64, if every decoder makes of it what a local model is shown;
    anything else is decoded (upright, RGB, over white) and goes as PNG, which loses nothing.
    formats: what the server reads beside PNG, as Pillow names them.
    max_side: an image with a longer side is shrunk to it first (Lanczos).
    root, base: images below the folder `root` go as the URL below `base` instead of their bytes.
    detail: the protocol's `detail` of each image.
    """

    max_side: int | None = None
    root: str | None = None
    base: str | None = None
    detail: str | None = None
    formats: tuple[str, ...] = FORMATS
    _known: OrderedDict[str, str] = field(default_factory=OrderedDict)
    _size: int = 0
    _lock: Lock = field(default_factory=Lock, repr=False)

    def content(self, image: Image) -> Message:
        """The part of a message that shows the image."""
        shown = {"url": self.url(image)}
        if self.detail is not None:
            shown["detail"] = self.detail
        return {"type": "image_url", "image_url": shown}

    def url(self, image: Image) -> str:
        served = self._served(image)
        if served is not None:
            return served
        digest = images.digest(image)
        with self._lock:
            known = self._known.get(digest)
            if known is not None:
                self._known.move_to_end(digest)
                return known
        kind, data = self._encoded(image)
        url = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
        with self._lock:
            if digest not in self._known:
                self._known[digest] = url
                self._size += len(url)
            while self._size > REMEMBERED_BYTES and len(self._known) > 1:
                _, dropped = self._known.popitem(last=False)
                self._size -= len(dropped)
        return url

    def _served(self, image: Image) -> str | None:
        if self.root is None or self.base is None or image.path is None:
            return None
        if image.member is not None or image.frame is not None:
            return None  # the file at the path is not the image
        path, root = Path(image.path).resolve(), Path(self.root).resolve()
        if not path.is_relative_to(root) or not self._as_it_is(images.info(image)):
            return None
        return f"{self.base.rstrip('/')}/{quote(path.relative_to(root).as_posix())}"

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


def messages(prompt: Prompt, layout: Layout, urls: ImageUrls) -> list[Message]:
    """The conversation: demonstrations as turns of user and assistant, or all in one user message."""
    found: list[Message] = []
    prompt = prompt.conversation()
    if prompt.system is not None:
        found.append({"role": "system", "content": prompt.system})
    if layout == "single":
        whole = replace(prompt, system=None).flat()
        return [*found, {"role": "user", "content": _content(whole, urls)}]
    for turn in prompt.turns:
        found.append({"role": "user", "content": _content(turn.ask, urls)})
        found.append({"role": "assistant", "content": plain(turn.reply)})
    found.append({"role": "user", "content": _content(prompt.query, urls)})
    return found


def plain(parts: Iterable[Part]) -> str:
    """Parts that are all texts as one; planning has refused any other."""
    texts = list(parts)
    assert all(isinstance(part, str) for part in texts)
    return "".join(map(str, texts))


def _content(parts: Iterable[Part], urls: ImageUrls) -> str | list[Message]:
    listed = list(parts)
    if all(isinstance(part, str) for part in listed):
        return plain(listed)  # some servers know nothing but plain texts
    found: list[Message] = []
    for part in listed:
        if isinstance(part, str):
            found.append({"type": "text", "text": part})
        elif isinstance(part, Video):
            found += [urls.content(frame) for frame in part.frames]
        else:
            found.append(urls.content(part))
    return found


def alike_together(requests: Iterable[Request], ahead: int) -> Iterator[tuple[int, Request]]:
    """(place, request) with neighbours that begin alike, which a server finds in its own cache.

    Of `ahead` requests at a time, in rounds: the next is the first in order of those that are not before
    the last one given.
    """
    coming = enumerate(requests)
    known: list[tuple[int, list[str], int, Request]] = []
    turn: tuple[int, list[str]] = (0, [])

    def take() -> None:
        for place, request in islice(coming, 1):
            start = beginning(request.prompt)
            heappush(known, (turn[0] + ((turn[0], start) < turn), start, place, request))

    for _ in range(ahead):
        take()
    while known:
        number, start, place, request = heappop(known)
        turn = (number, start)
        yield place, request
        take()


def beginning(prompt: Prompt) -> list[str]:
    """What decides which prompts begin alike: texts and digests in reading order."""
    shown = []
    for part in prompt.parts():
        if isinstance(part, str):
            shown.append(part)
        else:
            frames = part.frames if isinstance(part, Video) else (part,)
            shown += [images.digest(frame) for frame in frames]
    return shown
