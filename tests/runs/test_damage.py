"""Damaged and edited files of a run: healed by the run that follows, told by every verb, believed by none."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from emu2eval.errors import StoreError
from emu2eval.runs.files import sweep
from emu2eval.runs.jsontext import encode
from emu2eval.runs.record import known_record
from emu2eval.runs.scores import SampleScore, read_rows, read_scores
from emu2eval.runs.sealed import seal
from emu2eval.testing import small_task

from ..conftest import Program

FILES = ("run.json", "report.json", "scores.jsonl", "responses.jsonl")


@pytest.fixture
def runs(tmp_path: Path, program: Program) -> Path:
    """Two runs, of 0 and of 2 shots."""
    small_task(tmp_path, queries=4)
    run(program)
    return tmp_path / "results" / "runs"


def run(program: Program) -> tuple[int, str, str]:
    return program("run", "-t", "small.yaml", "-m", "most-common", "--trust", "-k", "0", "2")


def damage(path: Path, place: int = 40) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 0x02
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("name", FILES)
def test_the_same_run_heals_it(runs: Path, program: Program, name: str) -> None:
    folder = min(runs.iterdir())
    before = (folder / "scores.jsonl").read_bytes()
    damage(folder / name)
    code, _, told = run(program)
    assert code == 0
    assert ("damaged" in told) == (name in ("run.json", "responses.jsonl"))
    assert (folder / "scores.jsonl").read_bytes() == before
    assert known_record(folder) is not None
    code, _, told = run(program)
    assert (code, "damaged" in told) == (0, False)


def test_a_damaged_line_is_set_aside_and_kept(runs: Path, program: Program) -> None:
    folder = min(runs.iterdir())
    answers = folder / "responses.jsonl"
    lines = answers.read_bytes().splitlines(keepends=True)
    damage(answers)
    damaged = answers.read_bytes().splitlines(keepends=True)[0]
    run(program)
    assert (folder / "damaged.jsonl").read_bytes() == damaged
    assert sorted(map(_id, answers.read_bytes().splitlines())) == sorted(map(_id, lines))


def _id(line: bytes) -> str:
    return str(json.loads(line)["id"])


@pytest.mark.parametrize(
    "verb",
    [
        ["table"], ["table", "--pivot"], ["table", "--paper", "emu2"], ["report"], ["curves"], ["export"],
    ],
)  # fmt: skip
def test_among_several_it_costs_only_itself(runs: Path, program: Program, verb: list[str]) -> None:
    first, second = sorted(runs.iterdir())
    damage(first / "report.json")
    code, out, told = program(*verb)
    assert code == 3
    assert f"{first.name}/report.json" in told
    assert "emu2eval score" in told
    if verb in (["table"], ["export"]):
        assert "most-common" in out
    damage(second / "report.json")
    code, out, _ = program(*verb)
    assert (code, out) == (2, "")


def test_a_list_of_runs_names_it(runs: Path, program: Program) -> None:
    first, _ = sorted(runs.iterdir())
    damage(first / "report.json")
    code, out, _ = program("ls", "runs")
    assert code == 0
    assert "unreadable: rescore the run" in out
    assert out.count("exact_match") == 1


def edited(path: Path, at: tuple[str | int, ...], value: Any) -> None:
    """A file that somebody changed who also made its checksum hold."""
    data = json.loads(
        path.read_bytes().splitlines()[0] if path.suffix == ".jsonl" else path.read_bytes()
    )
    data.pop("sum")
    inner = data
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = value
    path.write_bytes(seal(json.dumps(data).encode()) + b"\n")


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (("rows", 0, "digits"), 10**9),
        (("rows", 0, "n"), -1),
        (("rows", 0, "low"), None),
        (("rows", 0, "shots"), [4]),
        (("rows", 0, "shots"), {"count": -4}),
        (("rows", 0, "value"), "12"),
        (("rows",), None),
        (("more",), 1),
    ],
)
def test_an_edited_report_is_told(runs: Path, at: tuple[str | int, ...], value: Any) -> None:
    folder = min(runs.iterdir())
    edited(folder / "report.json", at, value)
    with pytest.raises(StoreError, match="cannot read"):
        read_rows(folder)


def test_a_report_without_a_checksum_is_one_of_before(runs: Path) -> None:
    folder = min(runs.iterdir())
    data = json.loads((folder / "report.json").read_bytes())
    data.pop("sum")
    (folder / "report.json").write_text(json.dumps(data))
    assert len(read_rows(folder)) >= 1


def test_scores_of_somebody_else_are_told(runs: Path) -> None:
    folder = min(runs.iterdir())
    (folder / "scores.jsonl").write_text('{"id":"q","cluster":"q","value":1.0}\n')
    with pytest.raises(StoreError, match="checksum") as caught:
        list(read_scores(folder))
    assert caught.value.where == f"{folder / 'scores.jsonl'}:1"


def test_a_value_that_no_scorer_gives_is_told(runs: Path) -> None:
    """Its square would be no number."""
    folder = min(runs.iterdir())
    line = encode(SampleScore(id="q", cluster="q", value=1e200))
    (folder / "scores.jsonl").write_bytes(seal(line) + b"\n")
    with pytest.raises(StoreError, match="cannot read the scores"):
        list(read_scores(folder))


def test_a_damaged_image_is_made_again(tmp_path: Path, program: Program) -> None:
    small_task(tmp_path, queries=3, draw=True)
    command = ("run", "-t", "small.yaml", "-m", "copy", "--trust", "-k", "1")
    assert program(*command)[0] == 0
    (folder,) = (tmp_path / "results" / "runs").iterdir()
    before = (folder / "scores.jsonl").read_bytes()
    image = min((folder / "images").iterdir())
    whole = image.read_bytes()
    damage(image, len(whole) // 2)
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    code, _, told = program("score", folder.name, "--trust")
    assert code == 2
    assert "differs from the one that was stored" in told
    code, _, told = program(*command)
    assert code == 0
    assert "lack" in told
    assert image.read_bytes() == whole
    assert (folder / "scores.jsonl").read_bytes() == before


def test_what_a_kill_left_goes_and_what_is_being_written_stays(tmp_path: Path) -> None:
    dead, mine = tmp_path / ".scores.jsonl.4194999", tmp_path / f".scores.jsonl.{os.getpid()}"
    other = tmp_path / ".notes.txt"
    for path in (dead, mine, other):
        path.write_text("x")
    sweep(tmp_path)
    assert [path.exists() for path in (dead, mine, other)] == [False, True, True]


def test_a_full_or_read_only_disk_under_the_features_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from emu2eval.encoders import features
    from emu2eval.encoders.base import Thumbnail
    from emu2eval.errors import DataError

    def refuse(*given: Any, **named: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(features, "alone", refuse)
    with pytest.raises(DataError, match="Read-only file system"):
        features.FeatureCache(Thumbnail()).try_out()


def test_a_read_only_disk_under_keep_is_told(
    runs: Path, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: Any, **named: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    code, _, told = program("keep", min(runs.iterdir()).name)
    assert code == 2
    assert "Read-only file system" in told
