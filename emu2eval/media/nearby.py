"""What lies in the place of a file that does not exist: names that only look alike, a folder too many."""

from __future__ import annotations

import os
import unicodedata
from functools import lru_cache


def instead(path: str) -> str | None:
    """What was most likely done to a missing file, and what to do about it; None where nothing is seen."""
    folder, name = os.path.split(path)
    listed = _listed(folder or ".")
    alike = listed.get(_plain(name))
    if alike is not None and alike != name:
        how = (
            "upper or lower case"
            if _composed(alike) != _composed(name)
            else "the encoding of its accents"
        )
        return f"there is {alike!r}, which differs in {how}: rename it, or use that name"
    parent, inner = os.path.split(folder)
    deeper = f"{folder}/{inner}"
    if _plain(name) in _listed(deeper):
        return f"the files are nested one folder too deep, in {deeper}: move them up"
    written = f"{inner}\\{name}"
    if _plain(written) in _listed(parent or "."):
        return (
            f"there is {written!r}: a Windows archive was unpacked with backslashes in its names; unpack "
            "it again with `7z x`, or `python -m zipfile -e ARCHIVE FOLDER`"
        )
    return None


@lru_cache(maxsize=8)
def _listed(folder: str) -> dict[str, str]:
    """The names in a folder by how they look. Kept: many files of one folder are missing together."""
    try:
        with os.scandir(folder) as entries:
            return {_plain(entry.name): entry.name for entry in entries}
    except OSError:
        return {}


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _plain(name: str) -> str:
    return _composed(name).casefold()
