"""`emu2eval data status` and `data check`: what is there, whether it is whole, and the first wrong row."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emu2eval.doctor.data_check import missing, walk
from emu2eval.spec import catalog
from emu2eval.types import Image, Sample

from ..conftest import Program


@pytest.fixture
def said(program: Program) -> Callable[..., str]:
    """What a command prints, with one space between words, after checking its exit code."""

    def run(*arguments: str, code: int = 0) -> str:
        ended, out, err = program(*arguments)
        assert ended == code, out + err
        return " ".join((out + err).split())

    return run


def test_status_of_every_task(said: Callable[..., str], tmp_path: Path) -> None:
    text = said("data", "status")
    for name in catalog.names("task"):
        assert f" {name} " in text
    assert "easy-vqa all official there nothing to download" in text
    assert "CC BY 4.0" in said("data", "status", "vqav2")
    # Twelve splits need the same two things, which are told once.
    assert said("data", "status", "cobsat").count("datasets.zip") == 1
    assert f"data root {tmp_path}/data (does not exist)" in text


def test_status_tells_there_half_there_and_missing(vqav2: Path, said: Callable[..., str]) -> None:
    (vqav2 / "vqav2/v2_mscoco_train2014_annotations.json").unlink()
    (vqav2 / "coco/train2014").rename(vqav2 / "gone")
    text = said("data", "status", "vqav2")
    assert "val official half there" in text
    assert "(coco/val2014" in text
    assert "hub missing lmms-lab/VQAv2" in text
    assert "train official half there training annotations" in text
    (vqav2 / "vqav2/v2_OpenEnded_mscoco_train2014_questions.json").unlink()
    assert "train official missing training questions" in said("data", "status", "vqav2")


def test_check_compares_with_the_official_counts(vqav2: Path, said: Callable[..., str]) -> None:
    text = said("data", "check", "vqav2", "--split", "val", code=2)
    assert "no val: samples 4, but 214,354 officially" in text
    assert "no val: images 4, but 40,504 officially" in text
    assert "question; 10 references each; answer_type: 2 labels" in text
    assert "ok val: image files all present" in text
    assert "train" not in text
    text = said("data", "check", "vqav2", code=2)
    assert "no train: samples 20, but 443,757 officially" in text
    assert "question; no references (answers hidden)" in text


def test_check_is_content_with_a_whole_split(said: Callable[..., str], make_task: Any) -> None:
    spec = make_task(queries=12)
    whole = spec.read_text()
    text = "data:\n  expected: {test: {samples: 12, images: 12}, train: {samples: 20}}"
    spec.write_text(whole.replace("data:", text))
    text = said("data", "check", str(spec), "--images")
    assert "ok test: samples 12, as in the official files" in text
    assert "ok test: images open 12 decoded" in text
    assert "no " not in text.replace("no references", "")
    (spec.parent / "images/0003.png").write_bytes(b"<html>")
    (spec.parent / "images/0007.png").write_bytes(b"")
    assert "ok test: image files all present" in said("data", "check", str(spec))
    text = said("data", "check", str(spec), "--images", code=2)
    assert "no test: images open 2 cannot be used:" in text
    assert "0003.png: this is not an image" in text
    assert "0007.png: the image is empty" in text


def test_check_names_every_image_that_is_missing(vqav2: Path, said: Callable[..., str]) -> None:
    for n in (1, 4):
        (vqav2 / f"coco/val2014/COCO_val2014_{n:012d}.jpg").unlink()
    text = said("data", "check", "vqav2", "--split", "val", code=2)
    assert "no val: image files 2 do not exist:" in text
    # A long path is broken where the line ends.
    whole = text.replace(" ", "")
    assert "COCO_val2014_000000000001.jpg" in whole
    assert "COCO_val2014_000000000004.jpg" in whole


def test_check_names_the_first_wrong_row(
    vqav2: Path, make_task: Any, said: Callable[..., str]
) -> None:
    path = vqav2 / "vqav2/v2_mscoco_val2014_annotations.json"
    content = json.loads(path.read_text())
    content["annotations"][2]["image_id"] = "three"
    path.write_text(json.dumps(content))
    text = said("data", "check", "vqav2", "--split", "val", code=2)
    assert "$.annotations[2].image_id" in text.replace(" ", "")
    task = make_task()
    lines = (task.parent / "test.jsonl").read_text().splitlines()
    lines[6] = lines[6][:-9]
    (task.parent / "test.jsonl").write_text("\n".join(lines))
    whole = said("data", "check", str(task), code=2).replace(" ", "")
    assert f"{task.parent}/test.jsonl:7" in whole


def test_check_finds_rows_that_lack_something(make_task: Any, said: Callable[..., str]) -> None:
    task = make_task()
    path = task.parent / "test.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[4]["question"] = " "
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = said("data", "check", str(task), "--split", "test", code=2)
    assert "1 samples have an empty question; the first is q0004" in text
    rows[4]["question"] = "?"
    rows[5]["answer"] = None
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = said("data", "check", str(task), "--split", "test", code=2)
    assert "1 samples have no reference, although others do; the first is q0005" in text


def test_check_without_any_data_says_what_to_fetch(said: Callable[..., str]) -> None:
    text = said("data", "check", "vqav2", code=2)
    assert "v2_Questions_Val_mscoco.zip" in text
    assert "vqav2 has no split 'vall'; did you mean 'val'" in said(
        "data", "check", "vqav2", "--split", "vall", code=2
    )
    assert "vqav2 has no source 'hubb'" in said(
        "data", "check", "vqav2", "--source", "hubb", code=2
    )


def test_missing_images_are_told_whatever_the_folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/1.png").touch()
    shown = [Image(f"{tmp_path}/{name}") for name in ("a/1.png", "a/2.png", "b/1.png")]
    assert missing(shown) == [f"{tmp_path}/a/2.png", f"{tmp_path}/b/1.png"]
    assert missing([Image(data=b"x")]) == []


def test_images_of_an_answer_are_looked_at_too() -> None:
    from emu2eval.data.samples import Samples

    drawn = Sample("a", images=(Image("/x/1.png"),), answer=Image("/x/2.png"))
    assert len(walk(Samples([drawn], where="here")).images) == 2


def test_data_help_has_examples(said: Callable[..., str]) -> None:
    for verb in ("status", "check"):
        text = said("data", verb, "--help")
        assert "Examples:" in text
        assert f"emu2eval data {verb} vqav2" in text
