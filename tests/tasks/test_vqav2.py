"""VQAv2 from files in the official layout, made here, through the command line to a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from emu2eval import evaluate
from emu2eval.data.load import load_split
from emu2eval.errors import DataError
from emu2eval.spec.task import load_task

from ..conftest import Program


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    (folder / "vqav2").mkdir(parents=True)
    for split, first in (("train2014", 1000), ("val2014", 0)):
        (folder / "coco" / split).mkdir(parents=True)
        questions, annotations = [], []
        for n in range(first, first + 12):
            number = n // 2  # two questions an image
            image = Image.new("RGB", (20, 16), (n * 7 % 256, n // 4 % 256, 90))
            image.save(folder / "coco" / split / f"COCO_{split}_{number:012d}.jpg")
            answers = ["red"] * (4 + n % 6) + ["dark red"] * (6 - n % 6)
            questions.append({"image_id": number, "question": "What colour?", "question_id": n})
            annotations.append(
                {
                    "question_id": n,
                    "image_id": number,
                    "question_type": "what color",
                    "answer_type": "other",
                    "multiple_choice_answer": "red",
                    "answers": [
                        {"answer": a, "answer_confidence": "yes", "answer_id": i + 1}
                        for i, a in enumerate(answers)
                    ],
                }
            )
        head: dict[str, Any] = {"info": {}, "license": {}, "data_type": "mscoco"}
        for name, content in (
            (f"v2_OpenEnded_mscoco_{split}_questions.json", {"questions": questions}),
            (f"v2_mscoco_{split}_annotations.json", {"annotations": annotations}),
        ):
            (folder / "vqav2" / name).write_text(json.dumps(head | content))
    monkeypatch.setenv("EMU2EVAL_DATA", str(folder))
    return folder


def test_from_the_command_line_to_a_table(root: Path, program: Program) -> None:
    command = ["run", "--task", "vqav2", "--shots", "0", "4"]
    options = ["--model", "most-common", "--protocol", "openflamingo", "--groups", "-f", "json"]
    code, printed, said = program(*command, *options)
    assert code == 0, said
    rows = {(r["shots"], r["group"]): r for r in json.loads(printed)}
    assert rows["4", None]["value"] == 100  # four of ten annotators say red, at least
    head = rows["4", None]
    assert (head["metric"], head["variant"]) == ("vqa_accuracy", "always")
    assert rows["4", "question_type: what color"]["n"] == 12
    assert rows["0", None]["value"] == 0


def test_demonstrations_come_from_train_and_show_the_common_answer(root: Path) -> None:
    (result,) = evaluate("vqav2", "most-common", shots=[4])
    for line in (result.folder / "responses.jsonl").read_text().splitlines():
        row = json.loads(line)
        assert all(int(name) >= 1000 for name in row["examples"])
        assert len(row["shown"]) == 5
        assert row["text"] == "red"


def test_a_pool_is_drawn_once_a_trial_and_is_part_of_the_run(root: Path) -> None:
    task = load_task("vqav2", overrides={"demonstrations.pool": 3})
    assert task.spec.demonstrations.pool == 3
    (result,) = evaluate("vqav2", "most-common", shots=[3], changes=["task.demonstrations.pool=3"])
    lines = (result.folder / "responses.jsonl").read_text().splitlines()
    assert len({frozenset(json.loads(line)["examples"]) for line in lines}) == 1
    (grown,) = evaluate(
        "vqav2", "most-common", shots=[3], trials=3, changes=["task.demonstrations.pool=3"]
    )
    rows = [
        json.loads(line) for line in (grown.folder / "responses.jsonl").read_text().splitlines()
    ]
    pools = {(row.get("trial", 0), frozenset(row["examples"])) for row in rows}
    assert len(pools) == len({shown for _, shown in pools}) == 3
    assert grown.folder == result.folder and {json.loads(line)["id"] for line in lines}


def test_a_missing_image_is_named(root: Path, program: Program) -> None:
    (root / "coco" / "val2014" / "COCO_val2014_000000000003.jpg").unlink()
    code, _, said = program("run", "--task", "vqav2", "-m", "most-common")
    assert code == 2
    assert "COCO_val2014_000000000003.jpg" in said
    assert "unpacked completely" in said


def test_a_hidden_split_is_asked_and_called_hidden(root: Path) -> None:
    questions = {"questions": [{"image_id": 9, "question": "What?", "question_id": 9001}]}
    for name in ("test", "test-dev"):
        path = root / "vqav2" / f"v2_OpenEnded_mscoco_{name}2015_questions.json"
        path.write_text(json.dumps(questions))
    (root / "coco" / "test2015").mkdir()
    Image.new("RGB", (8, 8)).save(root / "coco" / "test2015" / "COCO_test2015_000000000009.jpg")
    (result,) = evaluate("vqav2", "most-common", shots=[2], split="test-dev")
    assert (result.rows[0].n, result.rows[0].unscored, result.rows[0].hidden) == (0, 0, 1)
    assert result.tally.failed == 0
    samples = load_split(load_task("vqav2", split="test-dev"), "test-dev")
    assert samples[0].references == ()


def test_an_annotation_of_another_shape_is_shown(root: Path) -> None:
    path = root / "vqav2" / "v2_mscoco_val2014_annotations.json"
    content = json.loads(path.read_text())
    content["annotations"][5]["answers"] = "red"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="answers") as caught:
        load_split(load_task("vqav2"), "val")
    assert str(path) in str(caught.value)
    assert "$.annotations[5].answers" in str(caught.value)
