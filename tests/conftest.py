"""A small task of drawn pictures, made anew for each test that wants one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

COLOURS = ("red", "green", "blue", "yellow", "black")


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test runs in its own folder, with no settings of whoever runs it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EMU2EVAL_DATA", raising=False)
    monkeypatch.delenv("EMU2EVAL_RUNS", raising=False)


def rows(count: int, first: int = 0, pictures: int | None = None) -> list[dict[str, Any]]:
    """Questions about squares: what colour is it, as the data of a user might look."""
    shown = pictures or count
    return [
        {
            "id": f"q{first + i:04d}",
            "picture": f"{first + i % shown:04d}.png",
            "question": f"what colour is square {first + i}?",
            "answer": COLOURS[(first + i % shown) % len(COLOURS)],
            "kind": "odd" if i % 2 else "even",
        }
        for i in range(count)
    ]


def draw(folder: Path, table: list[dict[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for row in table:
        number = int(row["picture"].removesuffix(".png"))
        image = Image.new("RGB", (16, 16), row["answer"])
        # No two pictures alike, or they would exclude one another as demonstrations.
        image.putpixel((0, 0), (number % 256, number // 256, 7))
        image.save(folder / row["picture"])


def write_jsonl(path: Path, table: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in table), encoding="utf-8")


MakeTask = Callable[..., Path]


@pytest.fixture
def make_task(tmp_path: Path) -> MakeTask:
    """Writes a task of `queries` test rows and `pool` train rows; returns the path of its YAML."""

    def make(
        queries: int = 12, pool: int = 20, pictures: int | None = None, **changes: Any
    ) -> Path:
        folder = tmp_path / "squares"
        test, train = rows(queries, pictures=pictures), rows(pool, first=1000)
        draw(folder / "pictures", [*test, *train])
        write_jsonl(folder / "test.jsonl", test)
        write_jsonl(folder / "train.jsonl", train)
        spec: dict[str, Any] = {
            "name": "squares",
            "title": "Colours of squares",
            "data": {
                "reader": "table",
                "root": ".",
                "options": {"picture_folder": "pictures", "groups": ["kind"]},
                "splits": {"test": {"file": "test.jsonl"}, "train": {"file": "train.jsonl"}},
            },
            "split": "test",
            "demonstrations": {"split": "train"},
            "score": {"scorer": "exact_match", "clean": ["strip"]},
            "protocol": "plain",
            "protocols": {"plain": {"ask": "{picture}{question} Answer:"}},
        }
        path = folder / "squares.yaml"
        path.write_text(yaml.safe_dump({**spec, **changes}), encoding="utf-8")
        return path

    return make


MakeModel = Callable[..., Path]


@pytest.fixture
def make_model(tmp_path: Path) -> MakeModel:
    """Writes a model that answers by a script; returns the path of its YAML."""

    def make(name: str = "robot", adapter: str = "scripted", **settings: Any) -> Path:
        path = tmp_path / f"{name}.yaml"
        spec = {"name": name, "adapter": adapter, "settings": settings}
        path.write_text(yaml.safe_dump(spec), encoding="utf-8")
        return path

    return make
