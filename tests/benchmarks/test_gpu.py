"""benchmarks/gpu.py at toy sizes on the CPU: every step gives figures."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"
SOME = ("kernels", "scores", "first-token", "fit", "engine", "graphs")


def check(found: dict[str, Any]) -> None:
    assert not {name: step for name, step in found.items() if "failed" in step}
    for case, way in found["kernels"].items():
        assert (
            way["right"] == ["CPU"] if case.startswith("heads") else way["chosen"]["error"] < 1e-5
        )
    for ways in found["scores"]["by_rows"].values():
        assert (
            ways["float32"]["distinct_of_top_100"] == 100 > ways["rounded"]["distinct_of_top_100"]
        )
        assert ways["float32"]["error"] < 1e-4 < ways["rounded"]["error"]
    # One pass over the prompts gives the first token, and each of the others takes one more.
    assert [way["passes"] for way in found["first-token"].values()] == [1, 4, 1, 4]
    assert found["fit"]["planned_gib"] <= found["fit"]["card_gib"]
    assert all(way["moved"] == 0 for way in found["graphs"].values())
    assert found["engine"]["batches"] == 3 and 0 <= found["engine"]["model_idle_share"] < 1


def test_some_steps_run_on_a_cpu(
    benchmark_module: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMU2EVAL_CACHE", str(tmp_path / "cache"))
    gpu = benchmark_module("gpu")
    gpu.main(["--tiny", "--file", str(tmp_path), "--only", *SOME])
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert set(found) == set(SOME)
    check(found)


@pytest.mark.slow
def test_every_step_runs_on_a_cpu(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, str(SCRIPT), "--tiny", "--file", str(tmp_path)],
        check=True,
        capture_output=True,
        timeout=300,
    )
    found = json.loads((tmp_path / "gpu.json").read_text())
    check(found)
    assert found["batches"]["float32"]["moved_beside_15"] < 1e-4
    for task in (*found["reference"].values(), *found["nano"].values(), found["in-memory"]):
        assert task["same"] == task["n"] > 0
    assert all(way["same_as_cpu"] == way["n"] == 8 for way in found["drawn"].values())
    assert found["in-memory"]["weights_changed"] == 0
