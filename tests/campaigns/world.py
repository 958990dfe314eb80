"""A small folder of a user: data, tasks, models, and a finished run of every kind."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emu2eval.testing import COLOURS, small_task, square

from .program import call, working_in

QUERIES, POOL = 4, 6


@dataclass(frozen=True)
class Kind:
    """A kind of run. command: what makes it, and continues it; out: its folder of runs."""

    name: str
    command: tuple[str, ...]

    @property
    def out(self) -> str:
        return f"runs/{self.name}"

    @property
    def whole(self) -> tuple[str, ...]:
        return (*self.command, "--out", self.out)


def _run(task: str, *more: str, model: str = "robot.yaml") -> tuple[str, ...]:
    return ("run", "-t", f"{task}.yaml", "-m", model, *more)


KINDS = (
    Kind("text", _run("text", "-k", "2", "--trials", "2")),
    Kind("zero", _run("text", "-k", "0")),
    Kind("choice", _run("choice", "-k", "1")),
    Kind("rices", _run("rices", "-k", "2")),
    Kind("judge", _run("judged", "-k", "0", "--judge", "judge.yaml")),
    Kind("images", _run("small", "-k", "1", "--trust", model="copy")),
    Kind("import", ("import", "answers.jsonl", "-t", "text.yaml", "-m", "theirs", "-k", "0")),
)
"""Those of `small` draw images, which no file but Python makes, so their task names code of ours."""


def write(folder: Path, *, queries: int = QUERIES, pool: int = POOL, **settings: Any) -> None:
    """Everything but the runs. settings: of the model that answers."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for split, first, count in (("test", 0, queries), ("train", 1000, pool)):
        lines = [_row(number) for number in range(first, first + count)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        for number in range(first, first + count):
            shown = square(COLOURS[number % len(COLOURS)], number)
            (folder / "images" / f"{number}.png").write_bytes(shown.data or b"")
    ask = {"plain": {"ask": "{image}{question} Answer:"}}
    task: dict[str, Any] = {
        "name": "text",
        "title": "Colours of squares",
        "data": {
            "reader": "table",
            "root": ".",
            "options": {"folder": "images", "groups": ["kind"]},
            "splits": {"test": {"files": "test.jsonl"}, "train": {"files": "train.jsonl"}},
        },
        "split": "test",
        "demonstrations": {"split": "train"},
        "score": {"scorer": "exact_match", "clean": ["strip"]},
        "protocol": "plain",
        "protocols": ask,
        "submission": {"format": "vizwiz", "questions": "test"},
    }
    changes: dict[str, dict[str, Any]] = {
        "text": {},
        "choice": {"score": {"scorer": "choice"}, "output": {"kind": "choice", "choices": list(COLOURS)}},
        "rices": {
            "demonstrations": {
                "split": "train", "chooser": "rices", "options": {"encoder": "thumbnail"},
            }
        },
        "judged": {"score": {"scorer": "mm_vet", "options": {"rounds": 2}}},
    }  # fmt: skip
    for name, changed in changes.items():
        # JSON is YAML, too.
        (folder / f"{name}.yaml").write_text(
            json.dumps({**task, **changed, "name": name}, indent=1)
        )
    small_task(folder, queries=queries, pool=pool, draw=True)
    _model(folder, "robot", default="red", replies={"square 1": "green"}, batch=2, **settings)
    _model(folder, "judge", default="0.5", batch=2, **settings)
    answers = [{"id": f"q{number:04d}", "answer": "red"} for number in range(queries)]
    (folder / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in answers))


def make(folder: Path) -> None:
    """Everything, and every run once."""
    write(folder)
    with working_in(folder):
        for kind in KINDS:
            ended = call(*kind.whole)
            assert ended.kind == "fine", (kind, ended)


def run_folder(folder: Path, kind: Kind) -> Path:
    """The only run of a kind."""
    (found,) = (folder / kind.out).iterdir()
    return found


def _row(number: int) -> dict[str, Any]:
    return {
        "id": f"q{number:04d}",
        "image": f"{number}.png",
        "question": f"what colour is square {number}?",
        "answer": COLOURS[number % len(COLOURS)],
        "kind": "odd" if number % 2 else "even",
    }


def _model(folder: Path, name: str, **settings: Any) -> None:
    spec = {"name": name, "adapter": "scripted", "settings": settings}
    (folder / f"{name}.yaml").write_text(json.dumps(spec, indent=1))
