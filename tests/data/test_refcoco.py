"""RefCOCO's files: Python 2's pickles, opened safely, and what the expressions become."""

from __future__ import annotations

import collections
import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as PILImage

from emu2eval.data import plainpickle, refcoco
from emu2eval.data.samples import Samples
from emu2eval.errors import DataError
from emu2eval.media import images
from emu2eval.media.boxes import write
from emu2eval.types import Sample

# What Python 2 writes for [{'split': 'val', 'ann_id': 1L, 'box': (1.5, None, True), 'name': u'caf\xe9'}]
# in protocols 0 and 2: byte strings for texts, longs for numbers.
PYTHON_2 = [
    b"(lp0\n(dp1\nS'split'\np2\nS'val'\np3\nsS'ann_id'\np4\nL1L\nsS'box'\np5\n(F1.5\nNI01\ntp6\n"
    b"sS'name'\np7\nVcaf\xe9\np8\nsa.",
    b"\x80\x02]q\x00}q\x01(U\x05splitq\x02U\x03valq\x03U\x06ann_idq\x04\x8a\x01\x01U\x03boxq\x05"
    b"G?\xf8\x00\x00\x00\x00\x00\x00N\x88\x87q\x06U\x04nameq\x07X\x05\x00\x00\x00caf\xc3\xa9q\x08ua.",
]


@pytest.mark.parametrize("data", PYTHON_2)
def test_python_2_pickles_are_read(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "refs.p").write_bytes(data)
    expected = {"split": "val", "ann_id": 1, "box": (1.5, None, True), "name": "café"}
    assert plainpickle.load(tmp_path / "refs.p") == [expected]


class Malicious:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("pwned",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_malicious_pickle_is_refused_and_runs_nothing(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "refs.p"
    path.write_bytes(pickle.dumps([{"split": "val", "more": Malicious()}], protocol))
    with pytest.raises(DataError, match=r"would run (posix|nt)\.mkdir") as caught:
        plainpickle.load(path)
    assert caught.value.where == str(path)
    assert not Path("pwned").exists()
    path.write_bytes(pickle.dumps(Malicious(), protocol))
    pickle.loads(path.read_bytes())
    assert Path("pwned").exists()  # it would have


@pytest.mark.parametrize("value", [collections.OrderedDict(a=1), {1, 2}.__class__, 1j, Path("x")])
def test_only_plain_data_is_taken(tmp_path: Path, value: Any) -> None:
    (tmp_path / "refs.p").write_bytes(pickle.dumps(value, 2))
    with pytest.raises(DataError, match="would run"):
        plainpickle.load(tmp_path / "refs.p")


@pytest.mark.parametrize(
    ("data", "hint"),
    [(b"", "empty"), (b"PK\x03\x04", "zip"), (b"(lp0\n", "again"), (b"\xff\x00", "again")],
)  # fmt: skip
def test_damaged_pickles_are_named(tmp_path: Path, data: bytes, hint: str) -> None:
    (tmp_path / "refs.p").write_bytes(data)
    with pytest.raises(DataError, match=hint):
        plainpickle.load(tmp_path / "refs.p")


def files(root: Path, **changes: Any) -> dict[str, Any]:
    sentence = {"sent": "dog on the left", "raw": "Dog on the LEFT!", "sent_id": 5, "tokens": []}
    ref = {"ref_id": 1, "ann_id": 70, "image_id": 42, "split": "testA", "sent_ids": [5, 6]}
    ref |= {
        "sentences": [sentence, {**sentence, "sent_id": 6}],
        "file_name": "ignored_1.jpg",
    } | changes
    others = [{**ref, "split": split, "sentences": []} for split in ("train", "val")]
    (root / "refs(unc).p").write_bytes(pickle.dumps([ref, *others], 2))
    instances = {
        "images": [{"id": 42, "width": 640, "height": 480, "file_name": "x.jpg"}],
        "annotations": [
            {"id": 70, "image_id": 42, "bbox": [64, 48.5, 128, 240], "segmentation": [[1, 2]]}
        ],
    }
    (root / "instances.json").write_text(json.dumps(instances))
    (root / "train2014").mkdir(exist_ok=True)
    return {"refs": "refs(unc).p", "instances": "instances.json", "images": "train2014"}


def read(root: Path, part: str = "testA", **changes: Any) -> list[Sample]:
    return list(refcoco.read(root, part=part, **files(root, **changes)))


def test_each_expression_is_a_query(tmp_path: Path) -> None:
    samples = Samples(read(tmp_path), where="testA")
    assert samples.ids == ["5", "6"]
    sample = samples[0]
    assert sample.fields["expression"] == "dog on the left"
    assert sample.cluster == "42"
    # From COCO's [left, top, width, height] to corners.
    assert sample.references == ("[64.0, 48.5, 192.0, 288.5]",)
    assert (sample.fields["width"], sample.fields["height"]) == ("640", "480")
    assert sample.answer == sample.fields["box_unit"] == "[0.1, 0.101, 0.3, 0.601]"
    assert sample.fields["box_pixels"] == "[64, 48, 192, 288]"
    # The image is named by its id; the name in the record is of another file.
    assert (sample.images[0].path or "").endswith("train2014/COCO_train2014_000000000042.jpg")


WHITE = (255, 255, 255)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_are_those_of_the_image_as_it_is_shown(tmp_path: Path, orientation: int) -> None:
    options = files(tmp_path)
    stored = PILImage.new("RGB", (640, 480))
    stored.paste(WHITE, (64, 48, 192, 288))
    exif = PILImage.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "train2014/COCO_train2014_000000000042.jpg", exif=exif)
    sample = next(refcoco.read(tmp_path, part="testA", **options))
    shown = images.load(sample.images[0])  # type: ignore[arg-type]
    assert (sample.fields["width"], sample.fields["height"]) == tuple(map(str, shown.size))
    found = shown.convert("L").point(lambda value: 255 * (value > 128)).getbbox()
    box = json.loads(str(sample.references[0]))
    # The box begins half a pixel below the square.
    assert found is not None
    assert max(abs(a - b) for a, b in zip(box, found, strict=True)) <= 1
    assert sample.fields["box_unit"] == write(tuple(box), shown.size, "unit")


def test_boxes_that_are_listed_upright_are_not_turned(tmp_path: Path) -> None:
    options = files(tmp_path)
    exif = PILImage.Exif()
    exif[0x0112] = 6
    path = tmp_path / "train2014/COCO_train2014_000000000042.jpg"
    PILImage.new("RGB", (480, 640)).save(path, exif=exif)
    sample = next(refcoco.read(tmp_path, part="testA", **options))
    assert sample.references == ("[64.0, 48.5, 192.0, 288.5]",)
    assert (sample.fields["width"], sample.fields["height"]) == ("640", "480")


def test_the_splits_of_different_makers_are_never_mixed(tmp_path: Path) -> None:
    """A val of 8,811 references is UNC's 3,811 with Google's 5,000: here a file gives its own alone."""
    with pytest.raises(DataError, match="split 'test'; available: testA, train, val"):
        read(tmp_path, part="test")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ann_id": 71}, "box 71 in image 42"),
        ({"image_id": 43}, "box 70 in image 43"),
        ({"sentences": [{"sent": "x"}]}, "unexpected content.*sent_id"),
    ],
)
def test_files_that_do_not_fit_are_named(tmp_path: Path, changes: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, **changes)
