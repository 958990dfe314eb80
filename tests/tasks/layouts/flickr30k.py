"""Karpathy's file for Flickr30k: no COCO ids, all images in one folder."""

from __future__ import annotations

from pathlib import Path

from ..drawing import write_json
from ._captions import record


def write(root: Path) -> None:
    folder = root / "flickr30k"
    splits = {"test": range(1, 5), "val": range(11, 13), "train": range(1001, 1021)}
    images = [
        record(folder / "flickr30k-images", number, split, f"{number}.jpg")
        for split, numbers in splits.items()
        for number in numbers
    ]
    write_json(folder / "dataset_flickr30k.json", {"dataset": "flickr30k", "images": images})
