"""VL-ICL's open_t2i_mi: as open_mi, but a class of the query is to be drawn."""

from __future__ import annotations

from pathlib import Path

from ._vl_icl import drawings


def write(root: Path) -> None:
    drawings(root, "open_t2i_mi", "Generate a {name}")
