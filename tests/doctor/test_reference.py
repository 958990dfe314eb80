"""Reference runs: kept small, free of this machine's paths, and repeated answer by answer."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from emu2eval import evaluate
from emu2eval.cli import app
from emu2eval.doctor.reference import Repeated, keep, repeat
from emu2eval.errors import StoreError


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    (result,) = evaluate(
        "easy-vqa-binding",
        "nearest",
        shots=[3],
        limit=40,
        changes=["task.output.max_new_tokens=4"],
        out=tmp_path / "runs",
    )
    return keep(result.folder, tmp_path / "references")


def test_a_reference_is_small_and_knows_no_place(kept: Path, tmp_path: Path) -> None:
    assert sorted(p.name for p in kept.iterdir()) == ["report.json", "run.json", "scores.jsonl.gz"]
    for name in ("run.json", "report.json"):
        assert str(tmp_path) not in (kept / name).read_text()
        assert str(Path.cwd()) not in (kept / name).read_text()
    record = json.loads((kept / "run.json").read_text())
    assert record["task_file"] == "easy-vqa-binding.yaml"
    before = (kept / "scores.jsonl.gz").read_bytes()
    again = keep(tmp_path / "runs" / kept.name, tmp_path / "second")
    assert (again / "scores.jsonl.gz").read_bytes() == before


def test_the_same_code_gives_the_same_answers(kept: Path, tmp_path: Path) -> None:
    whole = repeat(kept, tmp_path / "new")
    assert (whole.compared, whole.differing) == (40, ())
    assert whole.before == whole.now is not None
    part = repeat(kept, tmp_path / "part", limit=10)
    assert (part.compared, part.before) == (10, None)
    assert part.agrees


def test_what_differs_is_counted_and_named(kept: Path, tmp_path: Path) -> None:
    path = kept / "scores.jsonl.gz"
    lines = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    for line in lines[:2]:
        line[2] = "something else"
    path.write_bytes(gzip.compress("".join(json.dumps(x) + "\n" for x in lines).encode()))
    found = repeat(kept, tmp_path / "new")
    assert [d[0] for d in found.differing] == [line[0] for line in lines[:2]]
    assert found.differing[0][2] == "something else"
    assert not found.agrees
    path.write_bytes(gzip.compress("".join(json.dumps(x) + "\n" for x in lines[5:]).encode()))
    with pytest.raises(StoreError, match="holds no answer"):
        repeat(kept, tmp_path / "new")
    path.write_bytes(b"no gzip")
    with pytest.raises(StoreError, match="cannot be read"):
        repeat(kept, tmp_path / "new")


def test_bound() -> None:
    one = ("id", 0, "a", "b")
    assert Repeated("r", 1.0, 1.0, 10, (one,)).agrees
    assert Repeated("r", 1.0, 1.0, 1500, (one,) * 3).agrees
    assert not Repeated("r", 1.0, 1.0, 1499, (one,) * 3).agrees


def test_unfinished_runs_are_no_reference(tmp_path: Path) -> None:
    model = tmp_path / "robot.yaml"
    model.write_text('name: robot\nadapter: scripted\nsettings: {fail: ["circle"]}\n')
    (result,) = evaluate("easy-vqa", str(model), limit=40, out=tmp_path / "runs")
    assert result.tally.failed
    with pytest.raises(StoreError, match="all scored"):
        keep(result.folder, tmp_path / "references")
    with pytest.raises(StoreError, match="not the folder of a run"):
        keep(tmp_path, tmp_path / "references")


def test_by_command(kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from typer.testing import CliRunner

    run = CliRunner()
    done = run.invoke(app, ["keep", str(tmp_path / "runs"), "--into", "results/reference"])
    assert done.exit_code == 0, done.output
    done = run.invoke(app, ["repeat", "--limit", "5"])
    assert done.exit_code == 0, done.output
    assert kept.name[:20] in done.output and "ok" in done.output
