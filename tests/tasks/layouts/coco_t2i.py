"""COCO's caption files of both sets: two captions an image."""

from __future__ import annotations

from pathlib import Path

from . import _coco_captions


def write(root: Path) -> None:
    _coco_captions.write(root, "val2014", range(1, 5))
    _coco_captions.write(root, "train2014", range(1001, 1021))
