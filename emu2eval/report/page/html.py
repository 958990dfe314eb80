"""Data -> one .html file that runs nothing but its own script, whatever the data holds."""

from __future__ import annotations

import base64
import gzip
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from emu2eval.errors import StoreError

# Inside a JSON document these stand in strings only, where an escape means the same. Without them
# nothing can end the element, begin a comment, or end a line of a script.
_ESCAPES = {
    "<": "\\u003c",
    ">": "\\u003e",
    "&": "\\u0026",
    "\u2028": "\\u2028",
    "\u2029": "\\u2029",
}
_SCRIPTS = (
    "parts.js", "figures.js", "tables.js", "overview.js", "samples.js", "live.js", "page.js",
)  # fmt: skip
_IMAGES_TOGETHER = 200
"""Images that stand in one element of a page that holds them itself."""


@dataclass(frozen=True)
class Content:
    """What a page holds. head: read at once; chunks: by name, unpacked where somebody looks at them.

    images: as of `Thumbnails.entries`. live: asks the server that it came from what is new.
    """

    head: dict[str, Any]
    chunks: dict[str, Any]
    images: list[list[Any]]
    live: bool = False


def save(page: Content, file: Path) -> None:
    """Writes the page whole or not at all. Raises StoreError where it cannot be written."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("w", encoding="utf-8") as out:
                for piece in render(page):
                    out.write(piece)
            temporary.replace(file)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"cannot write the page ({error.strerror})", where=file) from None


def render(page: Content) -> Iterator[str]:
    """The page as text, piece by piece.

    Its policy allows this very script and style, by their hashes, and images beside or in it: no other
    script, no connection (but to its own server where it is live), no form, no frame.
    """
    style = _shipped("page.css")
    script = '"use strict";\n' + "".join(_shipped(name) for name in _SCRIPTS)
    images = "'self' data:" if page.live else "'self' file: data:"
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
        f"img-src {images}; base-uri 'none'; form-action 'none'"
    )
    if page.live:
        policy += "; connect-src 'self'"
    plain = {"policy": policy, "style": style, "script": script}
    # Every placeholder in one pass, so that nothing which was put in is looked at again.
    for number, part in enumerate(re.split(r"\{\{(\w+)\}\}", _shipped("page.html"))):
        if number % 2 == 0:
            yield part
        elif part == "data":
            yield from _data(page)
        else:
            yield plain[part]


def _data(page: Content) -> Iterator[str]:
    entries = [list(entry) for entry in page.images]
    inside: list[str] = []
    for entry in entries:
        if isinstance(entry[0], str) and entry[0].startswith("data:"):
            inside.append(entry[0])
            entry[0] = len(inside) - 1
    head = page.head | {"live": page.live, "together": _IMAGES_TOGETHER}
    yield _element("data", "application/json", embedded(head))
    for name, chunk in {**page.chunks, "images": entries}.items():
        yield _element(f"chunk-{name}", "text/plain", packed(chunk))
    for start in range(0, len(inside), _IMAGES_TOGETHER):
        group = embedded(inside[start : start + _IMAGES_TOGETHER])
        yield _element(f"inside-{start // _IMAGES_TOGETHER}", "application/json", group)


def _element(name: str, kind: str, text: str) -> str:
    return f'<script type="{kind}" id="{name}">{text}</script>\n'


def packed(value: Any) -> str:
    """JSON, compressed, as letters that mean nothing to a browser.

    >>> packed({"a": 1}).isascii()
    True
    """
    return base64.b64encode(gzip.compress(msgspec.json.encode(value), 6, mtime=0)).decode()


def embedded(value: Any) -> str:
    """JSON that can stand inside a <script type="application/json">.

    >>> embedded({"reply": "</script><!-- & \u2028"})
    '{"reply":"\\\\u003c/script\\\\u003e\\\\u003c!-- \\\\u0026 \\\\u2028"}'
    """
    text = msgspec.json.encode(value).decode()
    return re.sub("[<>&\u2028\u2029]", lambda found: _ESCAPES[found[0]], text)


def _shipped(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
