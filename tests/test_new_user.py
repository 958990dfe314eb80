"""What goes wrong with downloaded data, as a new user would do it: the message suffices to mend it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from .conftest import Program

QUESTIONS = "vqav2/v2_OpenEnded_mscoco_val2014_questions.json"
ANNOTATIONS = "vqav2/v2_mscoco_val2014_annotations.json"


@pytest.fixture
def refused(program: Program):  # type: ignore[no-untyped-def]
    """What `emu2eval run --task vqav2 --shots 4` says when it refuses."""

    def run(*more: str) -> str:
        code, out, said = program(
            "run", "--model", "most-common", "--task", "vqav2", "--shots", "4", *more
        )
        assert (code, out) == (2, "")
        assert not list(Path("results").glob("runs/*/responses.jsonl"))
        return " ".join(said.split())

    return run


def test_whole_data_runs(vqav2: Path, program: Program) -> None:
    assert program("run", "--model", "most-common", "--task", "vqav2", "--shots", "4")[0] == 0


def test_nothing_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("EMU2EVAL_DATA", str(tmp_path / "nowhere"))
    said = refused()
    assert "nowhere (does not exist)" in said
    assert "export EMU2EVAL_DATA=" in said
    assert "v2_Questions_Train_mscoco.zip" in said
    assert "or split val from the hub: emu2eval data get vqav2 --split val --source hub" in said


def test_an_archive_left_packed(vqav2: Path, refused) -> None:  # type: ignore[no-untyped-def]
    (vqav2 / ANNOTATIONS).unlink()
    archive = vqav2 / "vqav2/v2_Annotations_Val_mscoco.zip"
    archive.write_bytes(b"PK")
    assert f"{archive} is not unpacked yet: unzip -q {archive} -d {vqav2}/vqav2" in refused()
    archive.rename(vqav2 / archive.name)  # lying in the data root is recognised too
    assert "is not unpacked yet" in refused()
    shutil.rmtree(vqav2 / "coco/val2014")
    (vqav2 / "coco/val2014.zip").write_bytes(b"PK")
    assert f"unzip -q {vqav2}/coco/val2014.zip -d {vqav2}/coco" in refused()


def test_the_archive_itself_under_the_files_name(vqav2: Path, refused) -> None:  # type: ignore[no-untyped-def]
    (vqav2 / QUESTIONS).write_bytes(b"PK\3\4 and so on")
    said = refused()
    assert "the file is a zip archive; unpack it" in said
    assert str(vqav2 / QUESTIONS) in said


def test_a_web_page_under_the_files_name(vqav2: Path, refused) -> None:  # type: ignore[no-untyped-def]
    (vqav2 / QUESTIONS).write_text("\n<!DOCTYPE html><html>403 Forbidden</html>")
    said = refused()
    assert "a saved web page or error message" in said
    (vqav2 / QUESTIONS).write_text("<?xml version='1.0'?><Error>AccessDenied</Error>")
    assert "a saved web page or error message" in refused()


def test_a_truncated_file(vqav2: Path, refused) -> None:  # type: ignore[no-untyped-def]
    whole = (vqav2 / ANNOTATIONS).read_bytes()
    (vqav2 / ANNOTATIONS).write_bytes(whole[: len(whole) // 2])
    said = refused()
    assert "truncated" in said
    assert "download the file again and unpack all of it" in said
    (vqav2 / ANNOTATIONS).write_bytes(b"")
    said = refused()
    assert "v2_mscoco_val2014_annotations.json is empty" in said
    assert "v2_Annotations_Val_mscoco.zip" in said


def test_a_row_of_the_wrong_kind_is_named(vqav2: Path, refused) -> None:  # type: ignore[no-untyped-def]
    content = json.loads((vqav2 / QUESTIONS).read_text())
    content["questions"][2]["question_id"] = "three"
    (vqav2 / QUESTIONS).write_text(json.dumps(content))
    assert "$.questions[2].question_id" in refused()


def test_an_empty_folder_of_images(vqav2: Path, refused) -> None:  # type: ignore[no-untyped-def]
    shutil.rmtree(vqav2 / "coco/val2014")
    (vqav2 / "coco/val2014").mkdir()
    said = refused()
    assert "coco/val2014 is empty" in said
    assert "http://images.cocodataset.org/zips/val2014.zip" in said


def test_images_unpacked_one_level_too_deep(vqav2: Path, refused) -> None:  # type: ignore[no-untyped-def]
    (vqav2 / "coco/val2014").rename(vqav2 / "deep")
    (vqav2 / "coco/images").mkdir()
    (vqav2 / "deep").rename(vqav2 / "coco/images/val2014")
    assert f"it is in {vqav2}/coco/images/val2014: move it to {vqav2}/coco/val2014" in refused()


@pytest.mark.parametrize("root", ["data/vqav2", ".", "data/coco"])
def test_a_wrong_data_root(
    vqav2: Path, monkeypatch: pytest.MonkeyPatch, root: str, refused
) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("EMU2EVAL_DATA", str((vqav2.parent / root).resolve()))
    assert f"it is under {vqav2}: export EMU2EVAL_DATA={vqav2}" in refused()


def test_questions_and_annotations_of_different_splits(vqav2: Path, refused) -> None:  # type: ignore[no-untyped-def]
    train = vqav2 / "vqav2/v2_mscoco_train2014_annotations.json"
    (vqav2 / ANNOTATIONS).write_bytes(train.read_bytes())
    said = refused()
    assert "has no annotation" in said
    assert "question and annotation files must be of the same split and version" in said


def test_half_of_the_images(vqav2: Path, program: Program) -> None:
    (lost, *_) = sorted((vqav2 / "coco/val2014").iterdir())
    lost.unlink()
    code, _, said = program("run", "--model", "most-common", "--task", "vqav2", "--shots", "4")
    assert code == 2
    said = " ".join(said.split())
    assert "coco/val2014 contains 3 of 40,504 files" in said
    assert "the image does not exist" in said
    assert str(lost) in said
    assert "`emu2eval data check TASK` lists all missing images" in said


def test_a_folder_in_the_place_of_a_file(vqav2: Path, refused) -> None:  # type: ignore[no-untyped-def]
    (vqav2 / ANNOTATIONS).unlink()
    (vqav2 / ANNOTATIONS).mkdir()
    (vqav2 / ANNOTATIONS / "x").touch()
    said = refused()
    assert str(vqav2 / ANNOTATIONS) in said
    assert "directory" in said
