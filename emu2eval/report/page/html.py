"""Data -> one .html file that runs nothing but its own script, whatever the data holds."""

from __future__ import annotations

import base64
import hashlib
import os
import re
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
_SCRIPTS = ("parts.js", "charts.js", "samples.js", "page.js")


def save(page: dict[str, Any], file: Path) -> None:
    """Writes the page whole or not at all. Raises StoreError where it cannot be written."""
    text = render(page)
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(file)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"the page cannot be written ({error.strerror})", where=file) from None


def render(page: dict[str, Any]) -> str:
    """The page as text.

    Its policy allows this very script and style, by their hashes, and images beside or in it: no other
    script, no connection, no form, no frame.
    """
    style = _shipped("page.css")
    script = '"use strict";\n' + "".join(_shipped(name) for name in _SCRIPTS)
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
        "img-src 'self' file: data:; base-uri 'none'; form-action 'none'"
    )
    content = {"policy": policy, "style": style, "script": script, "data": embedded(page)}
    # One pass, so that nothing which was put in is looked at again.
    return re.sub(r"\{\{(\w+)\}\}", lambda found: content[found[1]], _shipped("page.html"))


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
