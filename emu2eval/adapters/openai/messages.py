"""Prompt -> chat messages: text and pictures in the order of the prompt, nothing left out."""

from __future__ import annotations

import base64
import io
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from emu2eval import pictures
from emu2eval.types import Part, Picture, Prompt, Video

Layout = Literal["turns", "single"]
Message = dict[str, Any]

SENT_AS_THEY_ARE = {"JPEG": "jpeg", "PNG": "png", "WEBP": "webp"}
"""Formats that servers read. Anything else is sent as PNG, which loses nothing."""

REMEMBERED_BYTES = 64 << 20
"""Encoded pictures that are kept, so that those of fixed demonstrations are encoded once."""


@dataclass
class PictureUrls:
    """A picture as a URL that a server can read.

    A JPEG, PNG or WebP that stands upright goes byte for byte, as base64; anything else is decoded (upright,
    RGB, over white) and goes as PNG. max_side: a picture with a longer side is shrunk to it first (Lanczos).
    root, base: pictures below the folder `root` go as the URL below `base` instead of their bytes.
    detail: the protocol's `detail` of each picture.
    """

    max_side: int | None = None
    root: str | None = None
    base: str | None = None
    detail: str | None = None
    _known: OrderedDict[str, str] = field(default_factory=OrderedDict)
    _size: int = 0

    def content(self, picture: Picture) -> Message:
        """The part of a message that shows the picture."""
        image = {"url": self.url(picture)}
        if self.detail is not None:
            image["detail"] = self.detail
        return {"type": "image_url", "image_url": image}

    def url(self, picture: Picture) -> str:
        served = self._served(picture)
        if served is not None:
            return served
        digest = pictures.digest(picture)
        known = self._known.get(digest)
        if known is not None:
            self._known.move_to_end(digest)
            return known
        kind, data = self._encoded(picture)
        url = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
        self._known[digest] = url
        self._size += len(url)
        while self._size > REMEMBERED_BYTES and len(self._known) > 1:
            _, dropped = self._known.popitem(last=False)
            self._size -= len(dropped)
        return url

    def _served(self, picture: Picture) -> str | None:
        if self.root is None or self.base is None or picture.path is None:
            return None
        if picture.member is not None or picture.frame is not None:
            return None  # the file at the path is not the picture
        path, root = Path(picture.path).resolve(), Path(self.root).resolve()
        if not path.is_relative_to(root):
            return None
        return f"{self.base.rstrip('/')}/{quote(path.relative_to(root).as_posix())}"

    def _encoded(self, picture: Picture) -> tuple[str, bytes]:
        info = pictures.info(picture)
        small = self.max_side is None or max(info.width, info.height) <= self.max_side
        data = pictures.read(picture)
        if info.format in SENT_AS_THEY_ARE and small and _upright(data):
            return SENT_AS_THEY_ARE[info.format], data
        image = pictures.load(picture)
        if self.max_side is not None and not small:
            from PIL import Image

            image.thumbnail((self.max_side, self.max_side), Image.Resampling.LANCZOS)
        return "png", pictures.read(pictures.from_image(image))


def _upright(data: bytes) -> bool:
    from PIL import ExifTags, Image

    with Image.open(io.BytesIO(data)) as image:  # its header only; `pictures.info` has checked it
        return bool(image.getexif().get(ExifTags.Base.Orientation, 1) == 1)


def messages(prompt: Prompt, layout: Layout, urls: PictureUrls) -> list[Message]:
    """The conversation: demonstrations as turns of user and assistant, or all in one user message."""
    found: list[Message] = []
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


def _content(parts: Iterable[Part], urls: PictureUrls) -> str | list[Message]:
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


def beginning(prompt: Prompt) -> list[str]:
    """What decides which prompts begin alike: texts and digests in reading order."""
    shown = []
    for part in prompt.parts():
        if isinstance(part, str):
            shown.append(part)
        else:
            frames = part.frames if isinstance(part, Video) else (part,)
            shown += [pictures.digest(frame) for frame in frames]
    return shown
