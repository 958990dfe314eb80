"""nocaps in COCO's format, with domains; the test split lists images only; COCO's train to show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..drawing import save, write_json
from ._captions import coco, said

DOMAINS = ("in-domain", "near-domain", "out-domain")


def write(root: Path) -> None:
    images = [listed(root, "val", number) for number in range(6)]
    annotations = [
        {"id": image["id"] * 10 + i, "image_id": image["id"], "caption": caption}
        for image in images
        for i, caption in enumerate(said(image["id"]) * 2)
    ]
    whole = {"info": {}, "licenses": [], "images": images, "annotations": annotations}
    write_json(root / "nocaps/nocaps_val_4500_captions.json", whole)
    hidden = [listed(root, "test", number) for number in range(101, 103)]
    for image in hidden:
        del image["domain"]
    write_json(root / "nocaps/nocaps_test_image_info.json", {"info": {}, "images": hidden})
    coco(root, {"test": range(1, 2), "train": range(1001, 1021)})


def listed(root: Path, split: str, number: int) -> dict[str, Any]:
    """The entry of image `number`, which is drawn."""
    name = f"{number:016x}.jpg"
    save(root / f"nocaps/{split}/{name}", number)
    return {
        "id": number,
        "open_images_id": f"{number:016x}",
        "domain": DOMAINS[number % 3],
        "file_name": name,
        "coco_url": f"https://example.org/{split}/{name}",
        "width": 32,
        "height": 24,
    }
