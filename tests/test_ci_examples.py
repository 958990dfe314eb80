"""The workflows under examples/ci: every step that a shell runs, with what GitHub provides."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "examples/ci"


def steps(name: str) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """The variables of a workflow, and its steps that are run by a shell."""
    workflow = yaml.safe_load((FOLDER / name).read_text())
    (job,) = workflow["jobs"].values()
    return workflow["env"], [step for step in job["steps"] if "run" in step]


class Shell:
    """Runs steps as GitHub does: bash, one process a step, outputs handed on by a file."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        (folder / "bin").mkdir()
        program = folder / "bin/emu2eval"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m emu2eval "$@"\n')
        program.chmod(0o755)
        self.folder, self.outputs = folder, folder / "outputs"
        self.summary = folder / "summary.md"
        self.env = {
            **os.environ, **env, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT),
            "GITHUB_STEP_SUMMARY": str(self.summary), "GITHUB_OUTPUT": str(self.outputs),
        }  # fmt: skip

    def run(self, step: dict[str, Any]) -> int:
        command = re.sub(r"\$\{\{ steps\.compare\.outputs\.code \}\}", self._code, step["run"])
        assert "${{" not in command
        shell = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", command]
        done = subprocess.run(shell, cwd=self.folder, env=self.env, capture_output=True, text=True)
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode

    def _code(self, found: re.Match[str]) -> str:
        return self.outputs.read_text().strip().removeprefix("code=")


@pytest.mark.slow
def test_two_checkpoints_are_compared(tmp_path: Path) -> None:
    _, listed = steps("compare-checkpoints.yml")
    named = {step["name"]: step for step in listed}
    # Without labels in the examples the words are guesses: the second of these is the worse one.
    env = {"BASELINE": "nearest", "CANDIDATE": "most-common", "TASKS": "easy-vqa-binding"}
    shell = Shell(tmp_path, {**env, "SHOTS": "8", "LIMIT": "300"})
    for name in ("Evaluate", "Compare", "Write the report"):
        assert shell.run(named[name]) == 0, name
    assert shell.run(named["Fail if the candidate is worse"]) == 4
    said = shell.summary.read_text()
    assert said.startswith("**`most-common 8` is worse than `nearest 8` on `easy-vqa-binding`")
    assert "🔴 worse" in said and "20 of" in said
    assert (tmp_path / "report.html").stat().st_size > 10_000


def test_kept_tables_are_made_again(tmp_path: Path) -> None:
    _, listed = steps("paper-tables.yml")
    named = {step["name"]: step for step in listed}
    shell = Shell(tmp_path, {"PAPERS": "emu2", "TABLES": str(tmp_path / "regenerated")})
    assert shell.run(named["Make the tables again"]) == 0
    assert "67.0" in shell.summary.read_text()
    made = tmp_path / "regenerated/emu2.md"
    made.write_text(made.read_text().replace("67.0", "67.9"))
    assert shell.run(named["Fail if a number has changed"]) == 4


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.yml")), ids=lambda file: file.name)
def test_names_of_the_workflows_exist(file: Path) -> None:
    from emu2eval.papers.published import load_paper
    from emu2eval.spec import catalog

    env, _ = steps(file.name)
    for name in env.get("TASKS", "").split():
        assert name in catalog.names("task")
    for name in (env[key] for key in ("BASELINE", "CANDIDATE") if key in env):
        assert name in catalog.names("model")
    for name in env.get("PAPERS", "").split():
        assert load_paper(name).spec.tables
