"""COCO's caption file of the validation set, whose images are taken."""

from __future__ import annotations

from pathlib import Path

from . import _coco_captions


def write(root: Path) -> None:
    _coco_captions.write(root, "val2014", range(1, 6))
