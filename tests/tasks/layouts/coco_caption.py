"""Karpathy's file for COCO: four splits in one, images in two folders."""

from __future__ import annotations

from pathlib import Path

from ._captions import coco


def write(root: Path) -> None:
    splits = {"test": range(1, 5), "val": range(11, 13), "restval": range(21, 23)}
    coco(root, {**splits, "train": range(1001, 1021)})
