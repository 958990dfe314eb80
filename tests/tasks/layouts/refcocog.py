"""RefCOCOg's files: the splits of UMD and of Google."""

from __future__ import annotations

from pathlib import Path

from ._refer import write_refs


def write(root: Path) -> None:
    umd = {"val": range(1, 3), "test": range(3, 5), "train": range(101, 121)}
    google = {"val": range(1, 3), "train": range(101, 121)}
    write_refs(root, "refcocog", {"umd": umd, "google": google})
