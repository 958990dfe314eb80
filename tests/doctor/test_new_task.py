"""`emu2eval new task`: what it writes passes the check and runs at once, and says what it guessed."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emu2eval import evaluate
from emu2eval.doctor.file_check import task_faults
from emu2eval.doctor.new_task import look
from emu2eval.doctor.new_task.write import new_task
from emu2eval.errors import ConfigError, UserError
from emu2eval.spec.task import load_task

from ..conftest import encoded, write_shards
from ..data.test_folders import arrow_row, fill, save, shard

ROWS: list[dict[str, Any]] = [
    {
        "question_id": n,
        "image": f"{n % 6}.jpg",
        "question": f"Is it {n}?",
        "answer": "yes" if n % 2 else "no",
    }
    for n in range(12)
]


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def table(root: Path) -> Path:
    """A CSV file beside a folder of images; the file says no split."""
    fill(root / "data", *(f"pictures/{n}.jpg" for n in range(6)))
    text = "\n".join(",".join(map(str, row.values())) for row in ROWS)
    (root / "data/all.csv").write_text(",".join(ROWS[0]) + "\n" + text + "\n")
    return root / "data/all.csv"


def files(root: Path) -> Path:
    """JSON lines named by split, in one folder with the images; the test split has no answers."""
    fill(root / "data", *(f"{n}.jpg" for n in range(6)))
    lines(root / "data/vqa_train.jsonl", ROWS)
    lines(root / "data/vqa_val.jsonl", ROWS)
    lines(root / "data/vqa_test.jsonl", [row | {"answer": ""} for row in ROWS])
    return root / "data"


def column(root: Path) -> Path:
    """Parquet with embedded images, choices, letters, and a column of splits."""
    rows = [
        {
            "idx": n, "picture": {"bytes": encoded(n), "path": None}, "question": f"q{n}",
            "choices": ["a", "b"],
            "answer": "AB"[n % 2], "split": "test" if n < 4 else "train", "category": "xy"[n % 2],
        }
        for n in range(8)
    ]  # fmt: skip
    write_shards(root / "data", "all", rows, shards=2)
    return root / "data"


def saved(root: Path) -> Path:
    for split in ("train", "validation"):
        save(root / "data" / split, [[arrow_row(n) for n in range(4)]])
    (root / "data/dataset_dict.json").write_text('{"splits": ["train", "validation"]}')
    return root / "data"


def shards(root: Path) -> Path:
    (root / "data").mkdir()
    shard(root / "data", "train-000.tar", range(4))
    shard(root / "data", "train-001.tar", range(4, 6))
    shard(root / "data", "test-000.tar", range(3))
    return root / "data"


def classes(root: Path) -> Path:
    return fill(root / "data", *(f"{name}/{n}.jpg" for name in ("cat", "dög") for n in range(3)))


def splits_of_classes(root: Path) -> Path:
    return fill(
        root / "data",
        *(f"{s}/{c}/{n}.jpg" for s in ("train", "valid") for c in "ab" for n in (1, 2)),
    )


def inline(root: Path) -> Path:
    """JSON with base64 images, several references, choices by number in columns, twice the same id."""
    rows = [
        {
            "id": n // 2, "Image": base64.b64encode(encoded(n)).decode(), "Question text": f"q{n}",
            "A": "red", "B": "blue", "C": "green", "label": n % 3 + 1,
        }
        for n in range(6)
    ]  # fmt: skip
    (root / "data.json").write_text(json.dumps({"version": 1, "items": rows}))
    return root / "data.json"


def words(root: Path) -> Path:
    """No images and no ids; long answers in a list of mappings."""
    rows = [{"prompt": f"p{n}", "answers": [{"text": f"a {n}"}, {"text": "b"}]} for n in range(6)]
    return lines(root / "data.jsonl", rows)


WRITTEN: dict[Callable[[Path], Path], list[str]] = {
    table: [
        "reader: table", "root: data", "folder: pictures   # the files are there",
        "id: question_id   # unique",
        "split: {draw: {test: 0.5}, seed: 0}", "chooser: balanced}   # 2 different answers",
        "clean: [first_line, strip, lower, no_final_period]", "ask: '{images}{question} Answer:'",
    ],
    files: [
        "val: {files: vqa_val.jsonl}", "split: val", "{split: train, chooser: balanced}",
        "the split test was ignored because it has no answers",
    ],
    column: [
        "reader: parquet", "images: picture   # contains images", "split: {column: split}",
        "answer_is: letter",
        "choices: choices   # lists them", "groups: [category]", "files: all-0000*-of-00002.parquet",
        "scorer: letter", "{options}",
    ],
    saved: [
        "reader: datasets", "images: [image, more]", "answer: label   # its classes have names",
        "split: validation", "scorer: class_name",
    ],
    shards: ["reader: webdataset", "train: {files: train-00*.tar}", "test: {files: test-000.tar}"],
    classes: ["preset: classification", "draw: {test: 0.5}"],
    splits_of_classes: ["splits: {train: {}, val: {}}", "split: val"],
    inline: [
        "reader: table", "id: false   # the column id is not unique", "images: Image",
        "choices: [A, B, C]",
        "answer_is: number   # counts from 1", "fields: {question: Question text}",
    ],
    words: ["images: false   # no column contains images", "references: answers.text", "no id column"],
}  # fmt: skip


@pytest.mark.parametrize("make", WRITTEN, ids=lambda make: make.__name__)
def test_what_is_written_runs_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], Path]
) -> None:
    monkeypatch.chdir(tmp_path)
    path, findings = new_task("mine", make(tmp_path))
    text = path.read_text()
    for each in WRITTEN[make]:
        assert each in text, text
    # Four demonstrations are more than some of these have.
    assert all(each.holds for each in findings if each.rule != "4 shots"), f"{findings}\n{text}"
    assert task_faults(f"./{path}") == []
    preset = "preset" in text
    for result in evaluate(f"./{path}", "most-common", shots=[0, 2], out=tmp_path / "runs"):
        assert (result.rows[0].n > 0, result.rows[0].unscored) == (True, 0)
    assert preset == (load_task(f"./{path}").spec.title == "Which class is the image of?")


def test_ids_that_stand_twice_further_on_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(look, "LOOKED_AT", 2)
    rows = [{"id": n % 3, "question": f"q{n}", "answer": "a"} for n in range(12)]
    path, findings = new_task("mine", lines(tmp_path / "rows.jsonl", rows))
    assert "id: false   # ids in the data are not unique" in path.read_text()
    assert all(each.holds for each in findings)


def test_loose_images_without_answers_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(1))
    with pytest.raises(UserError, match="not in class folders"):
        look.look(tmp_path)


def test_nothing_is_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = words(tmp_path)
    Path("mine.yaml").write_text("precious")
    with pytest.raises(ConfigError, match="already exists"):
        new_task("mine", source)
    assert Path("mine.yaml").read_text() == "precious"
    new_task("mine", source, Path("other.yaml"))
    assert "name: mine" in Path("other.yaml").read_text()


@pytest.mark.parametrize(
    ("name", "source", "says"),
    [
        ("../up", ".", "not a valid task name"),
        ("mine", "nothing", "no such file or folder"),
        ("mine", "empty", "no reader is available for no files"),
        ("mine", "odd", "files with the extensions .xyz"),
        ("mine", "odd/a.xyz", "a file with the extension .xyz"),
        ("mine", "bad.parquet", "truncated or damaged"),
    ],
)
def test_what_cannot_be_read_is_told_and_nothing_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, source: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("empty", "odd"):
        Path(folder).mkdir()
    Path("odd/a.xyz").touch()
    Path("bad.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=says):
        new_task(name, Path(source))
    assert not list(tmp_path.glob("*.yaml"))
