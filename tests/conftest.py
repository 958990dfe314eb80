"""A small task of drawn images, made anew for each test that wants one."""

from __future__ import annotations

import functools
import gc
import importlib
import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Of this process and of those that it starts: models here are too small for a second thread to be of use.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import pytest
import typer.testing
import yaml
from PIL import Image

from emu2eval.data import easy_vqa
from emu2eval.data.samples import Samples
from emu2eval.engine import splits
from emu2eval.spec.task import Task

from . import tiny_models
from .chat_server import ChatServer

# Typer would make every verb anew for each line that a test types.
typer.testing._get_command = functools.cache(typer.testing._get_command)

# On a busy machine a test is slow, not wrong.
hypothesis.settings.register_profile("emu2eval", deadline=None)
hypothesis.settings.load_profile("emu2eval")

COLOURS = ("red", "green", "blue", "yellow", "black")


def pytest_collection_finish() -> None:
    """What was imported stays: the collector of cycles need not look through it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test runs in its own folder, with no settings of whoever runs it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EMU2EVAL_DATA", raising=False)
    monkeypatch.delenv("EMU2EVAL_RUNS", raising=False)
    monkeypatch.setenv("EMU2EVAL_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session", autouse=True)
def _published_once() -> Iterator[None]:
    """A split of easy-VQA, 48,000 rows of an installed package, is read once and not in each test."""
    read, own = splits.load_split, easy_vqa.read
    kept: dict[object, Samples] = {}

    def load(task: Task, split: str, shots: int = 0) -> Samples:
        another = easy_vqa.read is not own  # such as one of fewer rows, in place of it for a while
        if another or task.spec.data.reader != "easy-vqa" or task.sources:
            return read(task, split, shots)
        key = (task.name, str(task.spec.data), split)
        if key not in kept:
            kept[key] = read(task, split, shots)
        return kept[key]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(splits, "load_split", load)
        yield


def rows(count: int, first: int = 0, images: int | None = None) -> list[dict[str, Any]]:
    """Questions about squares: what colour is it, as the data of a user might look."""
    shown = images or count
    return [
        {
            "id": f"q{first + i:04d}",
            "image": f"{first + i % shown:04d}.png",
            "question": f"what colour is square {first + i}?",
            "answer": COLOURS[(first + i % shown) % len(COLOURS)],
            "kind": "odd" if i % 2 else "even",
        }
        for i in range(count)
    ]


def draw(folder: Path, table: list[dict[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for row in table:
        number = int(row["image"].removesuffix(".png"))
        image = Image.new("RGB", (16, 16), row["answer"])
        # No two images alike, or they would exclude one another as demonstrations.
        image.putpixel((0, 0), (number % 256, number // 256, 7))
        image.save(folder / row["image"])


def write_jsonl(path: Path, table: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in table), encoding="utf-8")


MakeTask = Callable[..., Path]


@pytest.fixture
def make_task(tmp_path: Path) -> MakeTask:
    """Writes a task of `queries` test rows and `pool` train rows; returns the path of its YAML."""

    def make(queries: int = 12, pool: int = 20, images: int | None = None, **changes: Any) -> Path:
        folder = tmp_path / "squares"
        test, train = rows(queries, images=images), rows(pool, first=1000)
        draw(folder / "images", [*test, *train])
        write_jsonl(folder / "test.jsonl", test)
        write_jsonl(folder / "train.jsonl", train)
        spec: dict[str, Any] = {
            "name": "squares",
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
            "protocols": {"plain": {"ask": "{image}{question} Answer:"}},
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


Program = Callable[..., tuple[int, str, str]]


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Program:
    """Runs `emu2eval …` in this process; returns its exit code and what it printed on each stream."""
    from emu2eval import cli

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["emu2eval", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err or "--debug" in arguments
        return int(ended.value.code or 0), printed.out, printed.err

    return run


@pytest.fixture
def vqav2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data root with a small VQAv2 in the official layout, set as everybody's."""
    return _official("vqav2", tmp_path, monkeypatch)


@pytest.fixture
def coco_t2i(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same with COCO's captions and images."""
    return _official("coco_t2i", tmp_path, monkeypatch)


def _official(task: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    layout = importlib.import_module(f"{__package__}.tasks.layouts.{task}")
    root = folder / "data"
    layout.write(root)
    monkeypatch.setenv("EMU2EVAL_DATA", str(root))
    return root


def encoded(number: int) -> bytes:
    """A JPEG of its own for each number."""
    buffer = io.BytesIO()
    colour = (number * 37 % 256, number // 7 % 256, 90)
    Image.new("RGB", (20 + number % 3, 16), colour).save(buffer, format="JPEG")
    return buffer.getvalue()


def hub_image(number: int | None) -> dict[str, Any]:
    """An image as the hub's parquet files hold it."""
    if number is None:
        return {"bytes": None, "path": None}
    return {"bytes": encoded(number), "path": f"{number}.jpg"}


def write_shards(
    folder: Path, stem: str, rows: list[dict[str, Any]], *, shards: int = 2, group: int = 2
) -> list[Path]:
    """Rows as the parquet shards of one upload, `group` rows a row group."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    each = -(-len(rows) // shards)
    whole = pa.Table.from_pylist(rows)
    paths = []
    for number in range(shards):
        path = folder / f"{stem}-{number:05d}-of-{shards:05d}.parquet"
        pq.write_table(whole.slice(number * each, each), path, row_group_size=group)
        paths.append(path)
    return paths


@pytest.fixture
def chat_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    """A chat-completions server, asked without a proxy and again without much waiting."""
    from emu2eval.adapters.openai import client

    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setattr(client, "FIRST_WAIT", 0.01)
    server = ChatServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def tiny_emu2_gen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The YAML file of a tiny Emu2-Gen, for images of 64 x 64 in a few steps."""
    return tiny_models.emu2_gen(tmp_path_factory.mktemp("emu2-gen"))


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny CLIP, with preprocessor and tokenizer."""
    return tiny_models.clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="session")
def tiny_dino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny DINO, with preprocessor."""
    return tiny_models.dino(tmp_path_factory.mktemp("dino"))
