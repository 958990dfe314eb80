"""VL-ICL's fast_attr_t2i: as open_t2i_mi, each image with a caption of its own."""

from __future__ import annotations

from pathlib import Path

from ._vl_icl import drawings


def write(root: Path) -> None:
    drawings(root, "fast_attr_t2i", "Generate a {name} flower")
