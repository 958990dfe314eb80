"""A stranger's files run nothing, leave nothing behind and cost no traceback; see benchmarks/strangers.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..conftest import Program
from . import stranger_files as strangers

ALL = {each.name: each for each in strangers.strangers()}
LARGE = {"an image: 13,000 x 13,000 in RGBA"}
"""That are made slowly, and are about memory, which only a program of its own shows."""


@pytest.mark.parametrize("name", sorted(ALL.keys() - LARGE))
def test_files_of_a_stranger(
    name: str, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "base"
    work = base / "work"
    work.mkdir(parents=True)
    monkeypatch.chdir(work)
    monkeypatch.setenv("EMU2EVAL_RUNS", "out/runs")
    monkeypatch.setenv("EMU2EVAL_DATA", ".")
    outcomes = []
    for command in ALL[name].make(work):
        code, printed, errors = program(*command)
        outcomes.append(strangers.Outcome(command, code, printed + errors))
        assert not code or not ALL[name].harmless, errors
    assert strangers.faults(base, outcomes) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ALL))
def test_each_as_a_program_of_its_own(name: str, tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    outcomes = strangers.try_apart(ALL[name], base)
    assert strangers.faults(base, outcomes) == []


def test_what_must_not_happen_is_seen(tmp_path: Path) -> None:
    work = tmp_path / "work"
    (work / "out" / "runs").mkdir(parents=True)
    fine = strangers.Outcome(["table"], 0, "")
    assert strangers.faults(tmp_path, [fine]) == []
    (work / "ran").touch()
    (tmp_path / "x").touch()
    (work / "out" / "x").touch()
    (work / "out" / "runs" / "run.json").write_text(strangers.KEY)
    (work / "report.html").write_text(strangers.HOSTILE)
    bad = strangers.Outcome(
        ["table"], 1, f"\x1b Traceback (most recent call last) {strangers.KEY}", 21.0, 3 << 30
    )
    assert len(strangers.faults(tmp_path, [bad])) == 6 + 5
