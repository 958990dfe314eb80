"""COCO's captions_*.json with the images they are of."""

from __future__ import annotations

from pathlib import Path

from ..drawing import save, write_json
from ._captions import said


def write(root: Path, part: str, numbers: range, captions: int = 2) -> None:
    """`coco/annotations/captions_<part>.json`: so many captions an image, mixed as the official file is."""
    images = []
    for number in numbers:
        name = f"COCO_{part}_{number:012d}.jpg"
        save(root / "coco" / part / name, number)
        images.append({"id": number, "file_name": name, "height": 24, "width": 32, "license": 1})
    annotations = [
        {"image_id": number, "id": 1000 + 7 * number + turn, "caption": said(number)[turn + 2]}
        for turn in range(captions)
        for number in reversed(numbers)
    ]
    file = {"info": {"year": 2014}, "images": images, "licenses": [], "annotations": annotations}
    write_json(root / f"coco/annotations/captions_{part}.json", file)
