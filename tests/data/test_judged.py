"""The readers of MM-Vet and TouchStone: what is wrong in a file is said with its place."""

from __future__ import annotations

import base64
import csv
import json
from pathlib import Path
from typing import Any

import pytest

from emu2eval.data import mm_vet, touchstone
from emu2eval.data.samples import Samples
from emu2eval.media import images

from .damage import told

ROW = {"imagename": "v1_0.png", "question": "What?", "answer": "a<AND>b", "capability": ["rec"]}


def read(root: Path, **changes: Any) -> list[Any]:
    (root / "mm-vet.json").write_text(json.dumps({"v1_0": {**ROW, **changes}}))
    return list(mm_vet.read(root, "mm-vet.json", "images"))


def test_capabilities_are_groups_that_survive_packing(tmp_path: Path) -> None:
    (sample,) = Samples(read(tmp_path, capability=["math", "ocr"]), where="here")
    assert sample.groups == {"capability": ("ocr", "math"), "combination": "ocr+math"}
    assert (sample.answer, sample.references) == ("a and b", ("a<AND>b",))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"capability": ["see"]}, "the capabilities"),
        ({"capability": []}, "the capabilities"),
        ({"question": None}, "unexpected content"),
        ({"imagename": "../secret.png"}, "outside the data folder"),
    ],
)
def test_what_is_wrong_in_mm_vet(tmp_path: Path, changes: Any, says: str) -> None:
    said = told(lambda: read(tmp_path, **changes))
    assert says in said and "mm-vet.json" in said


def table(root: Path, *rows: list[str]) -> list[Any]:
    with (root / "t.tsv").open("w", newline="") as file:
        csv.writer(file, delimiter="\t").writerows(rows)
    return list(touchstone.read(root, "t.tsv"))


def test_an_image_is_read_late(tmp_path: Path) -> None:
    data = bytes(range(256)) * 1000
    cell = base64.b64encode(data).decode()
    header = ["image", *touchstone.COLUMNS]
    (sample,) = table(tmp_path, header, [cell, "7", "What?", "A\nhuman", "Answer", "a,b"])
    (image,) = sample.images
    assert image.data is None
    assert images.read(image) == data
    assert sample.fields == {"question": "What?", "description": "A\nhuman"}
    assert sample.groups == {"category": ("a", "b")}


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([["index", "question"], ["1", "q"]], "no column 'human_annotation' and"),
        ([["image", *touchstone.COLUMNS], ["", "1", "q", "h", "a", "c"]], "no image"),
        ([["image", *touchstone.COLUMNS], ["QUJD", "1", "q"]], "has 3 cells, but the header has 6"),
    ],
)
def test_what_is_wrong_in_touchstone(tmp_path: Path, rows: Any, says: str) -> None:
    said = told(lambda: table(tmp_path, *rows))
    assert says in said and "t.tsv:" in said
