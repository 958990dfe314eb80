"""`emu2eval check --report`: one block that says what helps, and nothing private."""

from __future__ import annotations

from pathlib import Path

import pytest

from emu2eval import cli
from emu2eval.adapters.conformance import Finding
from emu2eval.doctor import bug_report

from ..conftest import MakeTask, Program

KEY = "sk-0123456789abcdefghijklmnop"


@pytest.fixture(autouse=True)
def _private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    monkeypatch.setenv("HF_TOKEN", KEY)
    monkeypatch.setattr(bug_report, "_devices", lambda: iter(["the CPU alone"]))


def test_the_block_names_versions_and_what_was_asked(
    program: Program, make_task: MakeTask, tmp_path: Path
) -> None:
    task = make_task()
    code, out, _ = program("check", "--report", "--task", str(task), "--model", "no-such-model")
    assert code == 0
    topics = [line.partition(":")[0] for line in out.splitlines() if ":" in line[:13]]
    assert topics[:5] == ["emu2eval", "python", "platform", "encoding", "core"]
    assert {"devices", "java", "variables"} <= set(topics)
    assert "task ./squares/squares.yaml" in out
    assert "unknown model 'no-such-model'" in out
    assert "HF_TOKEN" in out
    for private in (KEY, str(tmp_path.parent)):
        assert private not in out


def test_a_bug_asks_for_the_block(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*arguments: object) -> str:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("emu2eval.report.listing.listing", broken)
    monkeypatch.setattr("sys.argv", ["emu2eval", "ls"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert "ZeroDivisionError: a bug\n" in said
    assert said.rstrip().endswith("emu2eval check --report")


def test_an_error_of_any_kind_is_part_of_it() -> None:
    def broken() -> list[Finding]:
        raise RuntimeError(f"no kernel for {KEY}")

    found = bug_report.bug_report({"model x": broken})
    assert "model x\n  RuntimeError: no kernel for [key]" in found
