"""`emu2eval run --engine`: the whole way, with an engine that stands in for a real one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from emu2eval import evaluate
from emu2eval.adapters.served.adapter import ServedAdapter
from emu2eval.errors import ModelError
from emu2eval.watch import Watcher

from .conftest import StandIns, gone


def run_json(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return found


def test_a_run_starts_its_engine_and_stops_it(
    engines: StandIns, checkpoint: Path, make_task: Any, program: Any
) -> None:
    line = (
        "run",
        "--task",
        str(make_task(queries=4)),
        "--model",
        str(checkpoint),
        "--engine",
        "vllm",
    )
    to = (*line, "--shots", "1", "-f", "json", "--set", "model.settings.options.max_model_len=4096")
    code, printed, errors = program(*to)
    assert code == 0, errors
    (row,) = json.loads(printed[printed.index("[") :])
    assert (row["model"], row["n"], row["unscored"]) == ("tiny-vl-vllm", 4, 0)
    (started,) = engines.started
    assert gone(started["pid"])
    assert "--max-model-len 4096" in " ".join(started["argv"])
    (folder,) = Path("results/runs").iterdir()
    assert run_json(folder)["ran_on"][0]["devices"] == {"CPU": 1}
    model = run_json(folder)["identity"]["model"]
    assert (model["adapter"], model["settings"]["engine"]) == ("served", "vllm")
    assert model["settings"]["options"] == {"max_model_len": 4096}
    assert model["files"]["engine"] == "0.30.0" and len(model["files"]["weights"]) == 64
    # All is answered: no engine is started to find that out.
    assert program(*to)[0] == 0
    assert len(engines.started) == 1


def test_a_run_whose_engine_crashed_is_continued(
    engines: StandIns, checkpoint: Path, make_task: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was under way is asked again, and nothing else."""
    engines.order(crashes="4")
    wait, told = ServedAdapter._wait, Watcher()
    notes: list[str] = []
    monkeypatch.setattr(told, "note", notes.append)
    monkeypatch.setattr(
        ServedAdapter, "_wait", lambda own, *given: (own.tell("still loading"), wait(own, *given))
    )
    asked = {"shots": 0, "engine": "vllm", "changes": ["model.settings.concurrency=1"]}
    task = str(make_task(queries=6))
    with pytest.raises(ModelError, match=r"vllm stopped \(exit code 1\)"):
        evaluate(task, str(checkpoint), **asked)
    (engines.folder / "crashes").unlink()
    (result,) = evaluate(task, str(checkpoint), watcher=told, **asked)
    assert "still loading" in notes
    assert (result.tally.kept, result.tally.asked) == (3, 3)
    assert result.rows[0].n == 6


def test_an_experiment_and_check_take_an_engine(
    engines: StandIns, checkpoint: Path, make_task: Any, program: Any
) -> None:
    task = make_task(queries=2)
    Path("mine.yaml").write_text(
        f"models: [{{model: {checkpoint}, engine: sglang}}, nearest]\ntasks: [{task}]\nshots: 1\n"
    )
    code, _, errors = program("run", "mine.yaml")
    assert code == 0, errors
    assert [each["argv"][0] for each in engines.started] == ["serve"]
    code, printed, _ = program("check", "--model", str(checkpoint), "--engine", "llama.cpp")
    assert code == 2 and "one GGUF model is needed" in printed.replace("\n", " ")
    code, printed, _ = program("check", "--model", str(checkpoint), "--engine", "vllm")
    assert "vllm 0.30.0" in printed and "text: one response per request" in printed
    assert all(gone(each["pid"]) for each in engines.started)


def test_plan_shows_the_gpus_of_a_replica(checkpoint: Path, program: Any) -> None:
    """Without the engine."""
    code, printed, _ = program(
        *("plan", "--model", str(checkpoint), "--engine", "vllm", "--memory", "8x80GiB"),
        *("--set", "model.settings.options.tensor_parallel_size=4"),
    )
    assert code == 0 and "tiny-vl-vllm" in printed and "2 replicas of 4 GPUs" in printed


def test_an_engine_that_is_not_installed_stops_before_any_download(
    checkpoint: Path, make_task: Any, program: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    line = ("run", "--task", str(make_task(queries=2)), "--model", str(checkpoint))
    code, _, errors = program(*line, "--engine", "vllm")
    assert code == 2
    assert "--engine vllm needs the package 'vllm', which is not installed" in errors
    assert "uv pip install vllm" in errors
