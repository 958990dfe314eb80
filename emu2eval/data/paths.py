"""Paths that stand in data files: always below the data's own folder."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

from emu2eval.errors import DataError


def inside(root: Path, relative: str, *, where: str) -> Path:
    """`root / relative`; raises DataError where it would leave the root.

    Backslashes (Windows) and accents (which are one character or two) become what the disk has.
    Links that the user put into the root are followed: large data often lives elsewhere.
    """
    parts = relative.replace("\\", "/").split("/")
    if (
        not relative
        or relative[0] in "/\\~"
        or ".." in parts
        or ":" in parts[0]
        or "\0" in relative
    ):
        raise DataError(
            f"the path {relative!r} is outside the data folder {root}",
            where=where,
            hint="paths in data files must be relative to the data folder and stay inside it",
        )
    if relative.isascii() and "\\" not in relative:
        return root / relative
    slashed = relative.replace("\\", "/")
    forms = (relative, slashed, *(unicodedata.normalize(form, slashed) for form in ("NFC", "NFD")))
    there = (form for form in forms if os.path.exists(root / form))  # noqa: PTH110 (which may raise)
    return root / next(there, slashed)


def folder(root: Path, relative: str, *, where: str) -> Path:
    """The same for a folder that must be there; raises FileNotFoundError where it is not."""
    found = inside(root, relative, where=where)
    if not found.is_dir():
        raise FileNotFoundError(2, "no such folder", str(found))
    return found
