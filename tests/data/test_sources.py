"""Official files or the hub's copy: which one is read, how it is told, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from emu2eval import evaluate
from emu2eval.data.load import load_split
from emu2eval.data.sources import choose
from emu2eval.errors import ConfigError, DataError, MissingData
from emu2eval.spec.task import load_task

from ..conftest import Program, write_shards


def hub_copy(root: Path, split: str = "val", shards: int = 2) -> Path:
    """A split of the small VQAv2 in the layout of lmms-lab/VQAv2, made from the official files."""
    official = {"val": "val2014", "test-dev": "test-dev2015", "test": "test2015"}[split]
    stem = {"val": "validation", "test-dev": "testdev", "test": "test"}[split]
    text = (root / f"vqav2/v2_OpenEnded_mscoco_{official}_questions.json").read_text()
    path = root / f"vqav2/v2_mscoco_{official}_annotations.json"
    listed = json.loads(path.read_text())["annotations"] if path.exists() else []
    annotations = {a["question_id"]: a for a in listed}
    hidden = dict.fromkeys(("question_type", "multiple_choice_answer", "answers", "answer_type"))
    rows = []
    for question in json.loads(text)["questions"]:
        name = f"COCO_{official.replace('-dev', '')}_{question['image_id']:012d}.jpg"
        data = (root / "coco" / official.replace("-dev", "") / name).read_bytes()
        row = annotations.get(question["question_id"], hidden) | question
        rows.append(row | {"image": {"bytes": data, "path": name}})
    folder = root / "hub/lmms-lab/VQAv2/data"
    write_shards(folder, stem, rows, shards=shards, group=2)
    return folder


def test_the_hub_holds_the_same_samples(vqav2: Path) -> None:
    for split in ("val", "test-dev", "test"):
        hub_copy(vqav2, split)
    task = load_task("vqav2")
    for split in ("val", "test-dev", "test"):
        hub = load_split(choose(task, [split], "hub")[0], split)
        official = load_split(task, split)
        assert hub.ids == official.ids
        for left, right in zip(hub, official, strict=True):
            assert (left.fields, left.answer, left.references) == (
                right.fields,
                right.answer,
                right.references,
            )
            assert (left.cluster, left.groups) == (right.cluster, right.groups)


def test_same_images_same_numbers_but_another_run(vqav2: Path) -> None:
    hub_copy(vqav2)
    official = evaluate("vqav2", "nearest", shots=[0, 4])
    hub = evaluate("vqav2", "nearest", shots=[0, 4], source="hub")
    assert [r.rows[0].value for r in hub] == [r.rows[0].value for r in official]
    assert hub[0].folder != official[0].folder
    assert hub[0].rows[0].sources == {"queries": "hub"}
    assert official[0].rows[0].sources == {}
    # The training split is not on the hub: its demonstrations are the official ones.
    assert hub[1].rows[0].sources == {"queries": "hub"}
    # Shots asked for together or alone are the same run.
    again = evaluate("vqav2", "nearest", shots=[0], source="hub")
    assert (again[0].folder, again[0].tally.asked) == (hub[0].folder, 0)


def test_without_the_official_files_the_hub_is_taken_and_named(
    vqav2: Path, program: Program
) -> None:
    hub_copy(vqav2)
    (vqav2 / "vqav2/v2_OpenEnded_mscoco_val2014_questions.json").unlink()
    code, _, said = program("run", "--model", "most-common", "--task", "vqav2", "--format", "json")
    assert code == 0
    assert "split val: from lmms-lab/VQAv2 on the hub; the official files are missing" in said
    (folder,) = Path("results/runs").glob("vqav2_0-shot*")
    assert json.loads((folder / "run.json").read_text())["task"]["sources"] == {"val": "hub"}
    code, out, _ = program("score", folder.name, "--format", "json")
    assert code == 0
    assert json.loads(out)[0]["sources"] == {"queries": "hub"}
    code, out, _ = program("show", "--task", "vqav2")
    assert code == 0
    assert "validation-00000-of-00002.parquet#image/0/0, 32 x 24" in out
    code, _, said = program(
        "run", "--model", "most-common", "--task", "vqav2", "--source", "official"
    )
    assert code == 2
    assert "v2_Questions_Val_mscoco.zip" in said


def test_half_of_the_hub_is_asked_for_again(vqav2: Path, program: Program) -> None:
    folder = hub_copy(vqav2)
    (vqav2 / "vqav2/v2_mscoco_val2014_annotations.json").unlink()
    (folder / "validation-00001-of-00002.parquet").unlink()
    fetch = "emu2eval data get vqav2 --split val --source hub"
    code, _, said = program("run", "--model", "most-common", "--task", "vqav2")
    assert code == 2
    assert "v2_Annotations_Val_mscoco.zip" in said
    assert f"or split val from the hub (validation-00001-of-00002 missing): {fetch}" in said
    for path in (vqav2 / "vqav2", vqav2 / "coco"):
        shutil.rmtree(path)
    code, _, said = program("run", "--model", "most-common", "--task", "vqav2")
    assert code == 2
    assert "lmms-lab/VQAv2 on the hub, some tens of GB" in said
    assert "validation-00001-of-00002 missing" in said
    assert "Annotations" not in said


def test_a_source_that_a_task_does_not_have(program: Program) -> None:
    code, _, said = program("run", "--task", "easy-vqa", "--source", "hub")
    assert code == 2
    assert "easy-vqa has no source 'hub'" in said
    assert "remove --source" in said
    code, _, said = program("run", "--model", "most-common", "--task", "vqav2", "--source", "hubb")
    assert "did you mean 'hub'" in said


def trap(folder: Path, **hub: Any) -> Path:
    """A task whose copy on the hub is not faithful."""
    spec = {
        "name": "trap",
        "title": "A copy that is not faithful",
        "data": {
            "reader": "table",
            "root": ".",
            "splits": {"val": {"files": "val.jsonl"}},
            "downloads": [
                {
                    "what": "the file",
                    "size": "1 MB",
                    "source": "https://example.org/val.zip",
                    "into": ".",
                    "gives": ["val.jsonl"],
                }
            ],
            "sources": {"hub": {"repo": "somebody/copy", **hub}},
        },
        "split": "val",
        "score": {"scorer": "exact_match"},
        "protocol": "plain",
        "protocols": {"plain": {"ask": "{image}{question}"}},
    }
    path = folder / "trap.yaml"
    path.write_text(yaml.safe_dump(spec))
    return path


def test_a_split_that_the_hub_mixes_is_refused_with_the_reason(
    tmp_path: Path, program: Program
) -> None:
    """lmms-lab/RefCOCO: val holds 3,811 rows of one partition and 5,000 of another, unmarked."""
    path = trap(tmp_path, refused={"val": "it mixes the partitions unc and google in one split"})
    rows = [{"id": str(n), "question": "?"} for n in range(4)]
    write_shards(tmp_path / "hub/somebody/copy/data", "val", rows)
    with pytest.raises(DataError, match="mixes the partitions") as caught:
        choose(load_task(str(path)), ["val"], "hub")
    assert "official files" in str(caught.value.hint)
    assert str(caught.value.where).startswith(f"{path}:")
    # Nor is it taken unasked where the official files are missing.
    with pytest.raises(MissingData, match="the file, 1 MB"):
        load_split(choose(load_task(str(path)), ["val"])[0], "val")
    code, out, _ = program("data", "status", str(path))
    assert code == 0
    assert "refused" in out


@pytest.mark.parametrize(
    ("task", "split", "why"),
    [
        ("nocaps", "val", "domains"),
        ("flickr30k", "test", "31,783"),
        ("refcoco", "val", "3,811"),
        ("refcocog", "val", "2,573"),
    ],
)
def test_unfaithful_copies_of_our_tasks_are_refused(task: str, split: str, why: str) -> None:
    with pytest.raises(DataError, match=why):
        choose(load_task(task), [split], "hub")
    # Unasked, the official files are what is missed.
    assert choose(load_task(task), [split])[0].sources.get(split, "official") == "official"


def test_a_repository_name_stays_a_name(tmp_path: Path) -> None:
    path = trap(tmp_path)
    for repo in ("../up", "a/b/c", "/etc/passwd", "a"):
        with pytest.raises(ConfigError, match="repo"):
            load_task(str(path), overrides={"data.sources.hub.repo": repo})
    moved = load_task("vqav2", overrides={"data.sources.hub.repo": "lmms-lab-encoder/VQAv2"})
    assert moved.spec.data.sources["hub"].folder == "hub/lmms-lab-encoder/VQAv2"
