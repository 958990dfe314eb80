"""Whole evaluations with replicas in processes: models, judges, and a model's own eyes."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from emu2eval import evaluate
from emu2eval.engine.backends.choose import Where
from emu2eval.engine.backends.pool import Placing
from emu2eval.engine.backends.replica import Replica, ReplicaStart
from emu2eval.engine.backends.share import Node, as_many, cores_each, room
from emu2eval.engine.precompute import compute_features

from ...tasks.layouts import mm_vet
from .processes import Processes

PLUGIN = """
import os
import shutil
from pathlib import Path
import numpy as np
from emu2eval import Adapter, Limits, Response
from emu2eval.media import images

class Weighty(Adapter):
    limits = Limits(frozenset({"text"}), batch=2)
    def __init__(self, reply: str = "0.5", log: str = ""):
        self.reply, self.log = reply, log
    def note(self, what):
        with open(self.log, "a") as log:
            log.write(f"{os.getpid()} {what} {self.reply}\\n")
    def load(self): self.note("load")
    def close(self): self.note("close")
    def answer(self, requests):
        self.note("answer")
        return [Response(text=self.reply) for _ in requests]
    def encode_images(self, shown):
        self.note(f"encode {len(shown)}")
        return np.array([[int(images.digest(i)[:4], 16), 1.0] for i in shown], dtype=np.float32)
"""


@pytest.fixture
def sites(monkeypatch: pytest.MonkeyPatch) -> list[Processes]:
    """Each site that is started, of processes in the place of Ray's."""
    made: list[Processes] = []

    def placing(self: Where, model: Any, adapter: Any, told: Any) -> Placing:
        start = ReplicaStart(model, self.device, adapter.workload, 1)
        made.append(Processes(lambda _: Replica(start)))
        assert isinstance(self.replicas, int)
        return Placing(made[-1], self.replicas)

    monkeypatch.setattr(Where, "_placing", placing)
    return made


@pytest.fixture
def weighty(tmp_path: Path) -> Any:
    Path("weighty.py").write_text(PLUGIN)
    log = tmp_path / "log"

    def make(name: str, reply: str) -> str:
        path = tmp_path / f"{name}.yaml"
        settings = json.dumps({"reply": reply, "log": str(log)})
        path.write_text(f"name: {name}\nadapter: weighty:Weighty\nsettings: {settings}\n")
        return str(path)

    return make


def said(log: Path) -> list[list[str]]:
    return [line.split(" ", 1) for line in log.read_text().splitlines()]


def test_a_judge_has_the_devices_once_the_models_are_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sites: list[Processes], weighty: Any
) -> None:
    mm_vet.write(tmp_path / "data")
    monkeypatch.setenv("EMU2EVAL_DATA", str(tmp_path / "data"))
    models = [weighty("first", "red"), weighty("second", "blue")]
    found = evaluate(
        "mm_vet", models, judge=weighty("judge", "0.5"), replicas=2, out=tmp_path / "runs"
    )
    assert [result.rows[0].value for result in found] == [50.0, 50.0]
    told = said(tmp_path / "log")
    assert all(int(process) != os.getpid() for process, _ in told)
    # Both models have answered before the judge is loaded, which is loaded once for both.
    order = [what for _, what in told if what.startswith("answer")]
    assert [w.split()[1] for w in dict.fromkeys(order)] == ["red", "blue", "0.5"]
    assert sum(bool(site.started) for site in sites) == 3
    assert len({process for process, what in told if what == "load 0.5"}) <= 2


def test_a_models_own_eyes_are_shared_out(
    make_task: Any, tmp_path: Path, sites: list[Processes], weighty: Any
) -> None:
    rices = {"split": "train", "chooser": "rices", "options": {"encoder": "model"}}
    task = str(make_task(queries=8, pool=12, demonstrations=rices))
    model = weighty("seeing", "red")
    (many,) = evaluate(task, model, shots=2, replicas=2, out=tmp_path / "many")
    assert all(int(process) != os.getpid() for process, _ in said(tmp_path / "log"))
    assert len(sites) == 1  # one start for looking and for answering
    (alone,) = evaluate(task, model, shots=2, out=tmp_path / "alone")
    name = "scores.jsonl"
    assert (alone.folder / name).read_bytes() == (many.folder / name).read_bytes()


def test_an_encoder_is_shared_out_before_the_model_has_its_turn(
    make_task: Any, tmp_path: Path, sites: list[Processes], weighty: Any, tiny_clip: Path
) -> None:
    rices = {"split": "train", "chooser": "rices", "options": {"encoder": str(tiny_clip)}}
    task = str(make_task(queries=8, pool=12, demonstrations=rices))
    model = weighty("seeing", "red")
    (many,) = evaluate(task, model, shots=2, replicas=2, out=tmp_path / "many")
    assert len(sites) == 2
    methods = [[method for method, _ in site.calls] for site in sites]
    assert "encode" in methods[0] and "ask" not in methods[0]
    assert "ask" in methods[1] and "encode" not in methods[1]
    made = sorted((tmp_path / "cache" / "features").rglob("images-*"))
    shutil.rmtree(tmp_path / "cache" / "features")
    ahead = dict(compute_features(task, at=Where(replicas=2)))
    assert {name: found.computed for name, found in ahead.items()} == {"test": 8, "train": 12}
    assert "encode" in [method for method, _ in sites[-1].calls]
    shutil.rmtree(tmp_path / "cache" / "features")
    (alone,) = evaluate(task, model, shots=2, out=tmp_path / "alone")
    assert alone.folder.name == many.folder.name  # named after the features' digest
    assert len(made) == 1


@pytest.mark.parametrize(
    ("nodes", "replicas", "gpus", "cores"),
    [
        ([Node(8)], 2, 0, 4),
        ([Node(8), Node(8)], 3, 0, 4),
        ([Node(16, 8)], 8, 1, 2),
        ([Node(96, 8), Node(96, 8)], 8, 2, 24),
        ([Node(2)], 5, 0, 1),
        ([], 1, 0, 1),
    ],
)
def test_cores_are_shared_so_that_all_find_room(
    nodes: list[Node], replicas: int, gpus: int, cores: int
) -> None:
    assert cores_each(nodes, replicas, gpus=gpus) == cores


def test_as_many_as_there_are_gpus_for() -> None:
    nodes = [Node(16, 8), Node(16, 5), Node(4)]
    assert (as_many(nodes, gpus=2), as_many(nodes, gpus=0), as_many([Node(4, 1)], gpus=2)) == (
        6,
        3,
        1,
    )
    assert room([Node(4, 1)], gpus=2, cores=1) == 0
