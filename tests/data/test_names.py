"""File names as Windows and macOS write them, and data in the wrong place: found, or told; never misled."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from emu2eval import registry
from emu2eval.data.elsewhere import elsewhere
from emu2eval.data.paths import inside
from emu2eval.data.presence import OFFICIAL, pieces
from emu2eval.data.samples import Samples
from emu2eval.errors import ImageError, MissingData
from emu2eval.media import images
from emu2eval.spec.data import Download
from emu2eval.spec.task import Task, load_task
from emu2eval.types import Image

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "café/é.png") for form in ("NFC", "NFD"))


def put(path: Path, data: bytes = b"1") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_a_path_written_on_windows_is_found(tmp_path: Path) -> None:
    there = put(tmp_path / "sub/deep/x.png")
    assert inside(tmp_path, "sub\\deep\\x.png", where="here") == there
    assert inside(tmp_path, "sub\\deep/gone.png", where="here") == tmp_path / "sub/deep/gone.png"
    odd = put(tmp_path / "back\\slash.png")
    assert inside(tmp_path, "back\\slash.png", where="here") == odd


@pytest.mark.parametrize("stored", [COMPOSED, DECOMPOSED])
@pytest.mark.parametrize("written", [COMPOSED, DECOMPOSED, COMPOSED.replace("/", "\\")])
def test_accents_are_one_character_or_two(tmp_path: Path, stored: str, written: str) -> None:
    there = put(tmp_path / stored)
    assert inside(tmp_path, written, where="here").samefile(there)


def test_a_table_of_a_mac_is_the_same_data_on_another_disk(tmp_path: Path) -> None:
    digests = set()
    for number, (stored, written) in enumerate(
        [(COMPOSED, COMPOSED), (DECOMPOSED, COMPOSED), (COMPOSED, COMPOSED.replace("/", "\\"))]
    ):
        root = tmp_path / str(number)
        put(root / stored)
        row = {"id": 1, "image": written, "answer": "a"}
        (root / "t.jsonl").write_text(json.dumps(row))
        (sample,) = registry.build(
            "reader", "table", {"files": "t.jsonl", "cluster": "id", "fields": []}, given=(root,)
        )
        (image,) = sample.images
        assert isinstance(image, Image)
        assert Path(image.path or "").exists()
        digests.add(Samples([sample], where="here").digest)
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("stored", "wanted", "says"),
    [
        (
            "a/Photo.JPG",
            "a/photo.jpg",
            "there is 'Photo.JPG', which differs in upper or lower case",
        ),
        (DECOMPOSED, COMPOSED.replace("café", unicodedata.normalize("NFD", "café")), "accents"),
        ("coco/val2014/val2014/1.jpg", "coco/val2014/1.jpg", "one folder too deep, in "),
        ("a\\x.png", "a/x.png", "unpacked with backslashes in its names"),
        ("a/b.png", "a/x.png", "emu2eval data check"),
    ],
)
def test_what_lies_there_instead_is_told(
    tmp_path: Path, stored: str, wanted: str, says: str
) -> None:
    put(tmp_path / stored)
    with pytest.raises(ImageError, match="does not exist") as caught:
        images.info(Image(str(tmp_path / wanted)))
    assert says in str(caught.value.hint)


# -- whole folders -----------------------------------------------------------------------------------


def told(root: Path, name: str, split: str) -> str:
    """What is said to have been done with the data of a split instead."""
    task = replace(load_task(name), root=root)
    return " ".join(piece.found or "" for piece in pieces(task, split, OFFICIAL)).strip()


def test_a_folder_in_a_folder_of_its_name_is_told_with_what_to_do(tmp_path: Path) -> None:
    root = tmp_path / "data"
    put(root / "coco/val2014/val2014/1.jpg")
    said = told(root, "vqav2", "val")
    folder = root / "coco/val2014"
    assert f"one folder too deep, in {folder}/val2014: mv {folder}/val2014 {folder}.new &&" in said
    # With other things beside it, it is what somebody wanted.
    put(root / "coco/val2014/1.jpg")
    assert told(root, "vqav2", "val") == ""


OTHERS = [
    ("gqa", "testdev", "mm-vet/images/v1_0.png"),
    ("gqa", "testdev", "mine/images/1.png"),
    ("gqa", "testdev", "images/1.png"),
    ("mm_vet", "test", "gqa/images/1.jpg"),
    ("vizwiz", "val", "nocaps/val/1.jpg"),
    ("vizwiz", "val", "val/1.jpg"),
    ("vizwiz", "test", "vizwiz/other/test/1.jpg"),
    ("nocaps", "val", "scienceqa/images/val/1/image.png"),
    ("hateful_memes", "test_seen", "mine/img/1.png"),
    ("msvd_qa", "test", "msrvtt_qa/test_qa.json"),
    ("msvd_qa", "test", "downloads/test_qa.json"),
    ("refcoco_plus", "val", "refcoco/instances.json"),
    ("scienceqa_img", "test", "images.zip"),
]


@pytest.mark.parametrize(("name", "split", "lies"), OTHERS)
def test_what_may_be_anothers_is_never_to_be_moved(
    tmp_path: Path, name: str, split: str, lies: str
) -> None:
    put(tmp_path / "data" / lies)
    assert told(tmp_path / "data", name, split) == ""


def test_a_name_of_its_own_is_recognised_anywhere(tmp_path: Path) -> None:
    root = tmp_path / "data"
    put(root / "YouTubeClips/a.avi")
    lies, wanted = root / "YouTubeClips", root / "msvd/YouTubeClips"
    assert told(root, "msvd_qa", "test") == f"it is in {lies}: move it to {wanted}"


@pytest.fixture
def own(tmp_path: Path, make_task: Callable[..., Path]) -> Callable[..., Task]:
    """A user's task whose data lies below the data root."""

    def make(*gives: str) -> Task:
        task = load_task(str(make_task()))
        download = Download(what="mine", size="", source="https://x.org/", into="", gives=gives)
        data = msgspec.structs.replace(task.spec.data, root=None, downloads=(download,))
        spec = msgspec.structs.replace(task.spec, data=data)
        return replace(task, spec=spec, root=tmp_path / "data")

    return make


def test_a_users_task_takes_nothing_of_the_shipped_ones(
    tmp_path: Path, own: Callable[..., Task]
) -> None:
    (tmp_path / "data").mkdir()
    for lies, wanted in {
        "coco/val2014/1.jpg": "val2014",  # would take the images of a dozen tasks
        "vqav2/sub/1.json": "mine/vqav2",
        "hub/lmms-lab/GQA/parts/1": "mine/parts",
        "other/images/1.png": "images",
    }.items():
        put(tmp_path / "data" / lies)
        task = own(wanted)
        assert elsewhere(task, task.spec.data.downloads[0]) is None, wanted


def test_a_run_says_it_too(tmp_path: Path) -> None:
    from emu2eval.data.sources import require

    put(tmp_path / "data/coco/val2014/val2014/1.jpg")
    with pytest.raises(MissingData) as caught:
        require(replace(load_task("vqav2"), root=tmp_path / "data"), ["val"])
    assert "but its files are nested one folder too deep" in str(caught.value)
    assert "move it to" not in str(caught.value)
