"""The hub's copies, written here in their own layouts from the official files, give the same samples."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from emu2eval.data.load import load_split
from emu2eval.data.sources import choose
from emu2eval.media import images
from emu2eval.spec.task import load_task
from emu2eval.types import Sample

from ..conftest import write_shards

Rows = list[dict[str, Any]]


def load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def image(path: Path) -> dict[str, Any]:
    return {"bytes": path.read_bytes(), "path": path.name}


def okvqa(root: Path, out: Path, split: str) -> None:
    annotations = load(root / "okvqa/mscoco_val2014_annotations.json")
    types = annotations["question_types"]
    by_id = {a["question_id"]: a for a in annotations["annotations"]}
    rows: Rows = []
    for question in load(root / "okvqa/OpenEnded_mscoco_val2014_questions.json")["questions"]:
        annotation = by_id[question["question_id"]]
        name = f"COCO_val2014_{question['image_id']:012d}.jpg"
        rows.append(
            {
                "question_id": str(question["question_id"]),
                "image": image(root / "coco/val2014" / name),
                "question": question["question"],
                "answers": [a["raw_answer"] for a in annotation["answers"]],
                "question_type": types[annotation["question_type"]],
                "answer_type": annotation["answer_type"],
            }
        )
    write_shards(out / "data", "val2014", rows)


def vizwiz(root: Path, out: Path, split: str) -> None:
    rows = [
        {
            "question_id": row["image"].removesuffix(".jpg"),
            "image": image(root / "vizwiz" / split / row["image"]),
            "question": row["question"],
            "answers": [a["answer"] for a in row.get("answers", [])],
            "category": row.get("answer_type"),
        }
        for row in load(root / f"vizwiz/annotations/{split}.json")
    ]
    write_shards(out / "data", split, rows)


def textvqa(root: Path, out: Path, split: str) -> None:
    folder = "test_images" if split == "test" else "train_images"
    rows = [
        {
            "image_id": row["image_id"],
            "question_id": row["question_id"],
            "question": row["question"],
            "image": image(root / f"textvqa/{folder}/{row['image_id']}.jpg"),
            # Empty texts in the place of hidden answers must not become references.
            "answers": row.get("answers", [""] * 10),
            "ocr_tokens": ["STOP"],
        }
        for row in load(root / f"textvqa/TextVQA_0.5.1_{split}.json")["data"]
    ]
    write_shards(out / "data", {"val": "validation"}.get(split, split), rows)


def gqa(root: Path, out: Path, split: str) -> None:
    part, _, every = split.partition("-")
    kind = "all" if every or split == "submission" else "balanced"
    asked = load(root / f"gqa/questions/{part}_{kind}_questions.json")
    hidden = part in ("test", "challenge", "submission")
    rows: Rows = []
    for name, question in asked.items():
        row = {key: question[key] for key in ("imageId", "question", "isBalanced")}
        if not hidden:
            row |= {key: question[key] for key in ("answer", "types", "semantic", "entailed")}
        rows.append({"id": name, **row})
    write_shards(out / f"{part}_{kind}_instructions", part, rows, shards=1)
    names = sorted({question["imageId"] for question in asked.values()})
    shown = [{"id": n, "image": image(root / f"gqa/images/{n}.jpg")} for n in names]
    write_shards(out / f"{part}_{kind}_images", part, shown)


COPIES: dict[str, tuple[Callable[[Path, Path, str], None], tuple[str, ...]]] = {
    "okvqa": (okvqa, ("val",)),
    "vizwiz": (vizwiz, ("val", "test")),
    "textvqa": (textvqa, ("val", "train", "test")),
    "gqa": (gqa, ("testdev", "testdev-all", "train", "val", "test", "challenge-all", "submission")),
}


def comparable(task: str, sample: Sample) -> Sample:
    """What both sources know of a sample; the images are compared apart."""
    groups = {name: label for name, label in sample.groups.items() if name != "answerable"}
    known = replace(sample, images=(), groups=groups)
    if task == "okvqa":  # without the stemmed answers and the number of the image
        fields = {k: text for k, text in sample.fields.items() if k != "first_answer"}
        return replace(known, references=(), cluster=None, fields=fields)
    if task == "vizwiz":  # without how sure the annotators were
        return replace(known, cluster=None, alternatives={})
    return known


@pytest.mark.parametrize("name", COPIES)
def test_the_same_samples(
    name: str, roots: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, splits = COPIES[name]
    official = roots(name)
    monkeypatch.setenv("EMU2EVAL_DATA", str(official))
    spec = load_task(name)
    folder = spec.spec.data.sources["hub"].folder
    for split in splits:
        write(official, tmp_path / folder, split)
        hub, _ = choose(replace(spec, root=tmp_path), [split], "hub")
        left, right = load_split(hub, split), load_split(spec, split)
        assert left.ids == right.ids
        for copy, original in zip(left, right, strict=True):
            assert comparable(name, copy) == comparable(name, original)
            (shown,), (wanted,) = copy.images, original.images
            assert images.digest(shown) == images.digest(wanted)  # type: ignore[arg-type]


def test_okvqa_without_stemmed_answers_is_scored_by_the_typed_ones_alone(
    roots: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from emu2eval.engine.tasks import opened
    from emu2eval.types import Response

    okvqa(roots("okvqa"), tmp_path / "hub/lmms-lab/OK-VQA", "val")
    monkeypatch.setenv("EMU2EVAL_DATA", str(tmp_path))
    task, notes = choose(load_task("okvqa"), ["val"])
    assert "from lmms-lab/OK-VQA on the hub; the official files are missing" in notes[0]
    sample = load_split(task, "val")[0]
    assert opened(task).scorer.score(sample, Response(text="racing")).value == 1
    stemmed = load_task("okvqa", protocol="emu2")
    assert opened(stemmed).scorer.score(sample, Response(text="racing")).value is None
