"""benchmarks/gpu.py at toy sizes on the CPU: every step gives figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


@pytest.mark.slow
def test_every_step_runs_on_a_cpu(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, str(SCRIPT), "--tiny", "--file", str(tmp_path)],
        check=True,
        capture_output=True,
        timeout=300,
    )
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert not {name: step for name, step in found.items() if "failed" in step}
    assert found["nano"]["easy-vqa"]["same"] == found["nano"]["easy-vqa"]["n"]
    assert all(way["same_as_cpu"] == way["n"] == 16 for way in found["drawn"].values())
    assert found["batches"]["float32"]["moved_beside_15"] < 1e-4
    for way in found["kernels"].values():
        assert way["fused"]["error"] < 1e-5
