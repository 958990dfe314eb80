"""RefCOCO+'s files: the split of UNC."""

from __future__ import annotations

from pathlib import Path

from ._refer import write_refs


def write(root: Path) -> None:
    unc = {"val": range(1, 3), "testA": range(3, 5), "testB": range(5, 7), "train": range(101, 121)}
    write_refs(root, "refcoco+", {"unc": unc})
