"""docs/how-to/own-data.md: its tables are what the code declares, and each of its examples runs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from emu2eval import evaluate
from emu2eval.data.load import load_split
from emu2eval.doctor.data_page import page
from emu2eval.spec.task import load_task
from emu2eval.types import Video

from .conftest import encoded, write_shards
from .data.test_folders import arrow_row, fill, save, tar

TEXT = (Path(__file__).parents[1] / "docs/how-to/own-data.md").read_text(encoding="utf-8")
EXAMPLES = {
    re.search(r"name: (\S+)", block)[1]: block  # type: ignore[index]
    for block in re.findall(r"```yaml\n(.*?)```", TEXT, re.S)
}


def test_its_tables_are_what_is_declared() -> None:
    assert page(TEXT) == TEXT, "run: python -m emu2eval.doctor.data_page"


def birds(root: Path) -> None:
    fill(root, *(f"{name}/{n}.jpg" for name in ("robin", "wren") for n in range(2)))


def street(root: Path) -> None:
    fill(root, *(f"photos/{n}.jpg" for n in range(5)))
    rows = "".join(f"{n},{n // 2}.jpg,q{n},a{n % 2}\n" for n in range(10))
    (root / "questions.csv").write_text("id,photo,question,answer\n" + rows)


def shops(root: Path) -> None:
    fill(root, "a.jpg", "b.jpg")
    for name, part in (("a", "heldout"), ("b", "train")):
        row = {
            "image": f"{name}.jpg",
            "question": "q",
            "answer": "A",
            "accepted": ["A", "B"],
            "kind": "k",
        }
        lines = [json.dumps(row | {"id": f"{name}{n}", "part": part}) for n in range(2)]
        (root / f"{name}.jsonl").write_text("\n".join(lines))


def pairs(root: Path) -> None:
    fill(root, *(f"{split}-{side}.jpg" for split in ("test", "train") for side in "lr"))
    row = {"question": "q", "a": "x", "b": "y", "c": "", "right_one": 2}
    for split in ("test", "train"):
        shown = {"left": f"{split}-l.jpg", "right": f"{split}-r.jpg"}
        content = {"data": {"items": [row | shown | {"id": n} for n in range(2)]}, "version": 1}
        (root / f"{split}.json").write_text(json.dumps(content))


def asked(root: Path) -> None:
    rows: list[dict[str, Any]] = [
        {
            "question_id": n, "image": {"bytes": encoded(n), "path": None},
            "asked": {"text": f"q{n}", "kind": "k"}, "answers": [{"answer": "a"}, {"answer": "a"}],
        }
        for n in range(2)
    ]  # fmt: skip
    for split in ("validation", "train"):
        write_shards(root.parent / "hub/data", split, rows, shards=2)


def animals(root: Path) -> None:
    for split in ("train", "test"):
        save(root / split, [[arrow_row(n) for n in range(2)]])
    (root / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')


def shards(root: Path) -> None:
    for n, name in enumerate(("test-000", "test-001", "train-000")):
        member = {"0.jpg": encoded(n), "0.txt": b"a\n", "0.json": b'{"question": "q"}'}
        tar(root / f"{name}.tar", member)


def clips(root: Path) -> None:
    rows = [f"{n}\tv{n}.mp4\t{n}\t{n + 2.5}\tq\ta\t{'abcc'[n]}" for n in range(4)]
    (root / "clips.tsv").write_text(
        "\n".join(["id\tclip\tfrom\tto\tquestion\tanswer\tpart", *rows])
    )


MADE = (birds, street, shops, pairs, asked, animals, shards, clips)


@pytest.mark.parametrize("make", MADE, ids=lambda make: make.__name__)
def test_its_examples_run(tmp_path: Path, make: Any) -> None:
    name = make.__name__
    (tmp_path / name).mkdir()
    make(tmp_path / name)
    path = tmp_path / f"{name}.yaml"
    path.write_text(EXAMPLES[name])
    if name == "clips":
        (video,) = load_split(load_task(str(path)), "test")[1].images
        assert isinstance(video, Video)
        assert [len(load_split(load_task(str(path)), s)) for s in ("test", "train")] == [2, 2]
        return
    (result,) = evaluate(str(path), "most-common", shots=1, out=tmp_path / "runs")
    assert (result.rows[0].n > 0, result.rows[0].unscored) == (True, 0)


def test_every_example_is_tried() -> None:
    assert {make.__name__ for make in MADE} == set(EXAMPLES)
