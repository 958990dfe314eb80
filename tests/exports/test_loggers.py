"""Loggers hear of a run while it goes on, and never change or stop it.

TensorBoard's event files are written and read for real. wandb and mlflow are stood in for; with their own
packages (wandb 0.31.0 offline and without a network, mlflow 3.17.2 with a folder and sqlite) they were
tried by hand.
"""

from __future__ import annotations

import struct
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from emu2eval import evaluate
from emu2eval.engine import live
from emu2eval.errors import MissingExtra, UnknownName
from emu2eval.exports.loggers import loggers
from emu2eval.exports.loggers import logging as logging_module
from emu2eval.exports.loggers.base import LoggedRun, LoggedSample, RunLogger
from emu2eval.exports.loggers.logging import Logging
from emu2eval.exports.results import ResultRun
from emu2eval.watch import Watcher, Watchers


class Kept(RunLogger):
    """Keeps what it hears."""

    name = "kept"

    def __init__(self) -> None:
        self.said: list[str] = []
        self.steps: list[tuple[int, Mapping[str, float]]] = []
        self.run: LoggedRun | None = None
        self.result: ResultRun | None = None
        self.samples: Sequence[LoggedSample] = ()

    def start(self, run: LoggedRun) -> None:
        self.said.append("start")
        self.run = run

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        self.steps.append((step, numbers))

    def finish(self, run: ResultRun, samples: Sequence[LoggedSample]) -> None:
        self.said.append("finish")
        self.result, self.samples = run, samples

    def close(self) -> None:
        self.said.append("close")


def followed(
    task: Path, logger: RunLogger, out: Path, **options: Any
) -> tuple[list[Any], list[str]]:
    notes: list[str] = []
    with Logging([logger], notes.append) as watcher:
        results = evaluate(task, "most-common", out=out, watcher=watcher, **options)
    return results, notes


@pytest.fixture(autouse=True)
def every_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "EVERY", 0.0)


def test_a_run_is_followed_to_its_table(make_task: Any, make_model: Any, tmp_path: Path) -> None:
    logger = Kept()
    robot = make_model("robot", default="red", fail=["square 3"])
    with Logging([logger], print) as watcher:
        (result,) = evaluate(make_task(queries=6), str(robot), out=tmp_path, watcher=watcher)
    assert logger.said == ["start", "finish", "close"]
    assert logger.run is not None and logger.run.config["fingerprint"][:8] in logger.run.name
    steps = [step for step, _ in logger.steps]
    assert steps == [1, 2, 3, 4, 5, 6, 6]
    last = logger.steps[-1][1]
    assert last == {"settled": 6, "failed": 1, "running/exact_match": result.rows[0].value}
    assert logger.result is not None and logger.result.numbers[0].value == result.rows[0].value
    shown = {sample.id: sample for sample in logger.samples}
    assert shown["q0000"].images[0][:4] == b"\x89PNG"
    assert (shown["q0000"].answer, shown["q0000"].references) == ("red", "red")
    assert shown["q0003"].value is None and shown["q0003"].why


def test_a_continued_run_counts_what_was_answered_before(make_task: Any, tmp_path: Path) -> None:
    task = make_task(queries=6)
    followed(task, Kept(), tmp_path, limit=2)
    logger = Kept()
    followed(task, logger, tmp_path)
    assert [step for step, _ in logger.steps][-1] == 6
    plain = evaluate(task, "most-common", out=tmp_path / "other")
    again = evaluate(task, "most-common", out=tmp_path)
    assert [r.rows[0].value for r in again] == [r.rows[0].value for r in plain]


def test_a_number_of_all_answers_together_has_no_running_value(
    make_task: Any, tmp_path: Path
) -> None:
    logger = Kept()
    task = make_task(queries=2, score={"scorer": "captions", "options": {"metrics": ["rouge_l"]}})
    followed(task, logger, tmp_path)
    assert set(logger.steps[-1][1]) == {"settled", "failed"}


@pytest.mark.parametrize("moment", ["start", "log", "finish", "close"])
def test_one_that_fails_is_told_once_and_changes_nothing(
    make_task: Any, tmp_path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKER_API_KEY", "a-secret-of-somebody")
    logger = Kept()

    def fail(*_: Any) -> None:
        raise SystemExit("no network for a-secret-of-somebody")

    monkeypatch.setattr(logger, moment, fail)
    results, notes = followed(make_task(queries=3), logger, tmp_path, shots=[0, 1])
    assert len(results) == 2 and results[0].rows[0].n == 3
    assert notes == [
        "--log kept failed and is disabled; the run continues: SystemExit: no network for [key]"
    ]


def test_one_that_hangs_is_left_behind(
    make_task: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging_module, "PATIENCE", 0.02)
    logger = Kept()
    monkeypatch.setattr(logger, "finish", lambda *_: time.sleep(30))
    begun = time.monotonic()
    _, notes = followed(make_task(queries=1), logger, tmp_path)
    assert time.monotonic() - begun < 20
    assert "it did not finish within" in notes[0]


def test_the_watchers_beside_it_hear_all(make_task: Any, tmp_path: Path) -> None:
    class Counts(Watcher):
        count = 0

        def settled(self, count: int) -> None:
            self.count += count

    counts, logger = Counts(), Kept()
    with Logging([logger], print) as logging:
        evaluate(
            make_task(queries=4), "most-common", out=tmp_path, watcher=Watchers(counts, logging)
        )
    assert (counts.count, logger.steps[-1][0]) == (4, 4)


def test_names_and_packages_are_checked_before_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        UnknownName, match="unknown logger 'tensorbord'; did you mean 'tensorboard'"
    ):
        loggers(["tensorbord=here"])
    monkeypatch.setattr("emu2eval.errors.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="--log wandb needs the package 'wandb'") as raised:
        loggers(["wandb"])
    assert raised.value.hint == "pip install 'emu2eval[wandb]'"


def test_tensorboards_own_files(make_task: Any, tmp_path: Path, program: Any) -> None:
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event

    task = str(make_task(queries=4))
    code, _, said = program(
        *(
            "run",
            "--task",
            task,
            "--model",
            "most-common",
            "--log",
            f"tensorboard={tmp_path / 'tb'}",
        )
    )
    assert (code, "failed" in said) == (0, False)
    (file,) = (tmp_path / "tb").glob("squares_0-shot_most-common_*/events.*")
    data, place, scalars, tags = file.read_bytes(), 0, {}, set()
    while place < len(data):
        (length,) = struct.unpack_from("<Q", data, place)
        for value in Event.FromString(data[place + 12 : place + 12 + length]).summary.value:
            tags.add(value.tag)
            if value.HasField("simple_value"):
                scalars[value.tag] = value.simple_value
        place += 16 + length
    assert scalars["settled"] == scalars["final/exact_match/n"] == 4
    assert scalars["running/exact_match"] == scalars["final/exact_match/value"]
    assert {"table/text_summary", "samples/q0000/0", "run/text_summary"} <= tags


def test_wandb_is_given_a_run_a_table_and_nothing_of_the_machine(
    make_task: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: dict[str, Any] = {"log": []}
    run = SimpleNamespace(
        define_metric=lambda *_, **__: None,
        log=heard["log"].append,
        summary=SimpleNamespace(update=lambda values: heard.update(summary=values)),
        finish=lambda: heard.update(finished=True),
    )
    stub = ModuleType("wandb")
    stub.Settings = dict  # type: ignore[attr-defined]
    stub.Table = dict  # type: ignore[attr-defined]
    stub.Image = lambda image: image.size  # type: ignore[attr-defined]
    stub.login = lambda prompt: False  # type: ignore[attr-defined]
    stub.init = lambda **given: heard.update(given) or run  # type: ignore[attr-defined]
    stub.__spec__ = __import__("importlib.machinery").machinery.ModuleSpec("wandb", None)
    monkeypatch.setitem(sys.modules, "wandb", stub)
    task = make_task(queries=2)
    _, notes = followed(task, loggers(["wandb"])[0], tmp_path)
    assert "not logged in" in notes[0] and heard == {"log": []}

    monkeypatch.setenv("WANDB_MODE", "offline")
    _, notes = followed(task, loggers(["wandb=mine"])[0], tmp_path)
    assert notes == [] and heard["finished"]
    assert (heard["project"], heard["resume"]) == ("mine", "allow")
    assert heard["settings"]["x_disable_meta"] and heard["settings"]["console"] == "off"
    assert heard["summary"]["final/exact_match/n"] == 2
    tables = heard["log"][-1]
    assert tables["table"]["columns"][0] == "group"
    assert tables["samples"]["data"][0][2] == [(16, 16)]


def test_mlflow_finds_a_run_again_and_names_are_no_beginnings_of_others(
    make_task: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics: list[str] = []
    runs: list[str] = []
    artifacts: list[str] = []

    class Client:
        def __init__(self, tracking_uri: str | None):
            assert tracking_uri == "file:there"

        def get_experiment_by_name(self, name: str) -> Any:
            return SimpleNamespace(experiment_id="1")

        def search_runs(self, experiments: Any, query: str, max_results: int) -> list[Any]:
            known = [name for name in runs if f"'{name}'" in query]
            return [SimpleNamespace(info=SimpleNamespace(run_id="r")) for _ in known]

        def create_run(self, experiment: str, tags: Any, run_name: str) -> Any:
            runs.append(tags["emu2eval.run"])
            return SimpleNamespace(info=SimpleNamespace(run_id="r"))

        def log_batch(self, run: str, metrics: Sequence[str]) -> None:
            names.extend(metrics)

        def log_image(self, run: str, image: Any, artifact: str) -> None:
            artifacts.append(artifact)

        def update_run(self, run: str, status: str) -> None:
            artifacts.append(status)

        log_param = log_dict = log_text = set_terminated = lambda self, *_, **__: None

    names = metrics
    for name, content in {
        "mlflow": {},
        "mlflow.tracking": {"MlflowClient": Client},
        "mlflow.entities": {"Metric": lambda name, value, now, step: name},
    }.items():
        module = ModuleType(name)
        module.__dict__.update(content)
        module.__spec__ = __import__("importlib.machinery").machinery.ModuleSpec(name, None)
        monkeypatch.setitem(sys.modules, name, module)
    task = make_task(queries=2)
    for _ in range(2):
        _, notes = followed(task, loggers(["mlflow=file:there"])[0], tmp_path)
        assert notes == []
    assert len(runs) == 1 and "RUNNING" in artifacts and "samples/0-0.png" in artifacts
    assert "final/kind- even/exact_match/value" in metrics
    assert not [(a, b) for a in metrics for b in metrics if b.startswith(f"{a}/")]
