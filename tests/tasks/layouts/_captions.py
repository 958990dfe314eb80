"""Records of Karpathy's caption files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..drawing import colour, save, write_json


def said(number: int) -> list[str]:
    """Five captions of image `number`."""
    shown = colour(number)
    return [
        f"A {shown} square on a grey wall.",
        f"There is a {shown} square.",
        f"One square, painted {shown}",
        f"A {shown} box in the middle.\n",
        f"Something {shown} hangs on the wall.",
    ]


def record(root: Path, number: int, split: str, name: str, folder: str = "") -> dict[str, Any]:
    """Image `number`, which is drawn, with its captions; folder: COCO's `filepath`, if it has one."""
    save(root / folder / name, number)
    sentences = [
        {"tokens": text.lower().split(), "raw": text, "imgid": number, "sentid": number * 10 + i}
        for i, text in enumerate(said(number))
    ]
    place = {"filepath": folder, "cocoid": number} if folder else {}
    return {
        "filename": name,
        "imgid": number,
        "split": split,
        "sentids": [s["sentid"] for s in sentences],
        "sentences": sentences,
        **place,
    }


def coco(root: Path, splits: dict[str, range]) -> None:
    """`coco/dataset_coco.json` and its images: train's are of train2014, all others of val2014."""
    images = []
    for split, numbers in splits.items():
        folder = "train2014" if split == "train" else "val2014"
        for number in numbers:
            name = f"COCO_{folder}_{number:012d}.jpg"
            images.append(record(root / "coco", number, split, name, folder))
    write_json(root / "coco/dataset_coco.json", {"dataset": "coco", "images": images})
