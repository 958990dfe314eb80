"""The files of lichengunc/refer: Python 2's pickles of references, instances.json, COCO's images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..drawing import colour, save, write_json

BOX = [8.0, 6.0, 14.0, 12.0]
"""Left, top, width and height of the square that every image shows."""


def write_refs(root: Path, folder: str, makers: dict[str, dict[str, range]]) -> None:
    """makers: for `refs({maker}).p` the images of each split, one reference and two expressions each."""
    images = sorted(
        {n for splits in makers.values() for numbers in splits.values() for n in numbers}
    )
    for number in images:
        save(root / f"coco/train2014/COCO_train2014_{number:012d}.jpg", number)
    instances: dict[str, Any] = {
        "info": {},
        "images": [{"id": n, "width": 32, "height": 24, "file_name": f"{n}.jpg"} for n in images],
        "annotations": [
            {"id": n * 10, "image_id": n, "category_id": 1, "bbox": BOX, "area": 168.0}
            for n in images
        ],
        "categories": [{"id": 1, "name": "square"}],
    }
    write_json(root / folder / "instances.json", instances)
    for maker, splits in makers.items():
        refs = [reference(n, split) for split, numbers in splits.items() for n in numbers]
        (root / folder / f"refs({maker}).p").write_bytes(python2_pickle(refs) + b".")


def reference(number: int, split: str) -> dict[str, Any]:
    expressions = [f"the {colour(number)} square", f"{colour(number)} thing on the wall"]
    sentences = [
        {
            "raw": f"{text.upper()}!",
            "sent": text,
            "sent_id": number * 10 + i,
            "tokens": text.split(),
        }
        for i, text in enumerate(expressions)
    ]
    return {
        "ref_id": number,
        "ann_id": number * 10,
        "category_id": 1,
        "file_name": f"COCO_train2014_{number:012d}_{number}.jpg",
        "image_id": number,
        "split": split,
        "sent_ids": [s["sent_id"] for s in sentences],
        "sentences": sentences,
    }


def python2_pickle(value: Any) -> bytes:
    """As Python 2 writes it in protocol 0: texts are byte strings, large numbers longs."""
    if isinstance(value, dict):
        items = (python2_pickle(k) + python2_pickle(v) + b"s" for k, v in value.items())
        return b"(d" + b"".join(items)
    if isinstance(value, list):
        return b"(l" + b"".join(python2_pickle(item) + b"a" for item in value)
    if isinstance(value, str):
        return b"S" + repr(value.encode())[1:].encode() + b"\n"
    return f"L{value}L\n".encode() if value > 1000 else f"I{value}\n".encode()
