"""Names of tasks, models and encoders as parts of paths: the one function that makes such a part."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from emu2eval.errors import StoreError

LONGEST = 80
"""Bytes of a name in UTF-8: three of them and a hash stay below the 255 that file systems take."""

_UNSAFE = re.compile(r"[^\w.+-]+")
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|conin\$|conout\$|clock\$|(com|lpt)[0-9¹²³])(\.|$)")
"""What Windows takes for a device, whatever ending follows."""


def path_part(name: str) -> str:
    """A name as a part of a path that every system takes, at most `LONGEST` bytes.

    >>> path_part("org/model-7b"), path_part("../../../x"), path_part("aux.txt"), path_part("a\\0 b.")
    ('org--model-7b', 'x', '-aux.txt', 'a-b')
    """
    whole = unicodedata.normalize("NFC", name).replace("/", "--").replace("\\", "--")
    plain = _UNSAFE.sub("-", whole).strip(".-") or "unnamed"
    if _RESERVED.match(plain):
        plain = f"-{plain}"
    return plain.encode()[:LONGEST].decode(errors="ignore").rstrip(".-")


def below(root: Path, name: str) -> Path:
    """`root / name`. Raises StoreError where that is not a folder right in the root."""
    found = root / name
    if found.parent != root or name in ("", ".", "..") or "\0" in name:
        raise StoreError(f"the folder {name!r} would be outside the results folder", where=root)
    return found
