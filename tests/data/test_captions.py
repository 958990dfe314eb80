"""Karpathy's files and COCO's format."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from emu2eval.data import captions
from emu2eval.errors import ConfigError
from emu2eval.types import Sample

from .damage import told

KARPATHY: dict[str, Any] = {
    "dataset": "coco",
    "images": [
        {
            "filepath": "val2014",
            "filename": f"COCO_val2014_{number:012d}.jpg",
            "cocoid": number,
            "imgid": number,
            "split": split,
            "sentids": [],
            "sentences": [{"tokens": [], "raw": f" Image {number}. \n"}, {"raw": "a second"}],
        }
        for number, split in ((7, "train"), (8, "restval"), (9, "test"))
    ],
}
NOCAPS: dict[str, Any] = {
    "images": [
        {"id": 0, "file_name": "a.jpg", "domain": "in-domain"},
        {"id": 1, "file_name": "b.jpg", "domain": "out-domain"},
    ],
    "annotations": [
        {"id": 0, "image_id": 1, "caption": "B one"},
        {"id": 1, "image_id": 0, "caption": "A one"},
        {"id": 2, "image_id": 1, "caption": "B two"},
    ],
}


def read(root: Path, content: Any, **options: Any) -> list[Sample]:
    (root / "file.json").write_text(json.dumps(content))
    (root / "images").mkdir(exist_ok=True)
    return list(captions.read(root, images="images", **options))


def test_restval_is_no_part_of_train(tmp_path: Path) -> None:
    train = read(tmp_path, KARPATHY, karpathy="file.json", parts=["train"])
    both = read(tmp_path, KARPATHY, karpathy="file.json", parts=["train", "restval"])
    assert [s.id for s in train] == ["7"]
    assert [s.id for s in both] == ["7", "8"]


def test_karpathys_records(tmp_path: Path) -> None:
    (sample,) = read(tmp_path, KARPATHY, karpathy="file.json", parts=["test"])
    assert sample.references == (" Image 9. \n", "a second")
    assert sample.answer == "Image 9."
    assert (sample.images[0].path or "").endswith("images/val2014/COCO_val2014_000000000009.jpg")
    (bare,) = read(tmp_path, KARPATHY, karpathy="file.json", parts=["test"], references=False)
    assert (bare.answer, bare.references) == ("Image 9.", ())


def test_flickr30k_has_no_coco_ids(tmp_path: Path) -> None:
    images = [{"filename": "1007129816.jpg", "split": "test", "sentences": [{"raw": "a man"}]}]
    (sample,) = read(tmp_path, {"images": images}, karpathy="file.json", parts=["test"])
    assert sample.id == "1007129816"
    assert (sample.images[0].path or "").endswith("images/1007129816.jpg")


def test_nocaps_has_domains_and_captions_in_the_order_of_the_file(tmp_path: Path) -> None:
    first, second = read(tmp_path, NOCAPS, coco="file.json")
    assert (first.groups, second.groups) == ({"domain": "in-domain"}, {"domain": "out-domain"})
    assert second.references == ("B one", "B two")


def test_hidden_captions_leave_no_references(tmp_path: Path) -> None:
    listed = [{"id": 3, "file_name": "c.jpg"}]
    (sample,) = read(tmp_path, {"images": listed}, coco="file.json")
    assert (sample.references, sample.answer, sample.groups) == ((), None, {})


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (KARPATHY, {"karpathy": "file.json", "parts": ["tset"]}, "the file has the splits"),
        (KARPATHY, {"karpathy": "file.json"}, r"not \(none\)"),
        (NOCAPS | {"annotations": NOCAPS["annotations"][:1]}, {"coco": "file.json"}, "image has no caption"),
        (NOCAPS | {"images": NOCAPS["images"][:1]}, {"coco": "file.json"}, "for image 1, which is not"),
        ([], {"coco": "file.json"}, "unexpected content"),
        (
            {"images": [{"id": 0, "file_name": "../a.jpg"}]},
            {"coco": "file.json"},
            "outside the data folder",
        ),
    ],
)  # fmt: skip
def test_bad_files_are_named(tmp_path: Path, content: Any, options: Any, message: str) -> None:
    said = told(lambda: read(tmp_path, content, **options))
    assert re.search(message, said)
    assert "file.json" in said


def test_one_kind_of_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="exactly one"):
        read(tmp_path, NOCAPS)
