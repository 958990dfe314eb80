"""A published table measured again: with a tiny Emu2 on small data, and with everything missing."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from emu2eval import cli
from emu2eval.engine.options import RunOptions
from emu2eval.errors import ConfigError, UnknownName
from emu2eval.papers.published import load_paper
from emu2eval.papers.reproduce import (
    NotReady,
    WantedColumn,
    estimate,
    missing,
    ready,
    together,
    wanted,
)
from emu2eval.papers.reproduce import costs as costs_of
from emu2eval.spec import catalog

Command = Callable[..., str]

FEATURES = ("--set", "task.demonstrations.options.encoder=thumbnail")
CHANGES = [FEATURES[1]]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """OK-VQA and Hateful Memes, of the five tasks of table 1."""
    folder = tmp_path / "data"
    for task in ("okvqa", "hateful_memes"):
        importlib.import_module(f"{__package__}.layouts.{task}").write(folder)
    monkeypatch.setenv("EMU2EVAL_DATA", str(folder))
    monkeypatch.setenv("EMU2EVAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    yield folder


def listed(
    *tasks: str, hidden: bool = False, table: str = "1", model: str = "emu2"
) -> list[WantedColumn]:
    paper = load_paper("emu2")
    return wanted(paper, paper.table(table), model, tasks, hidden=hidden)


def answers(folder: Path) -> int:
    return sum(len(path.read_text().splitlines()) for path in folder.glob("*/responses.jsonl"))


def test_what_the_table_wants() -> None:
    found = listed()
    assert [each.column.id for each in found] == [
        *("vqav2", "okvqa", "vizwiz", "textvqa", "hateful_memes")
    ]
    assert all(each.shots == ("0", "4", "8", "16") for each in found)
    assert [each.split for each in found] == ["val", "val", "val", "val", "test_seen"]
    assert [each.split for each in listed(hidden=True)][:3] == ["test-dev", "val", "test"]
    with pytest.raises(ConfigError, match="no number for emu2 that can be measured"):
        listed("gqa")
    with pytest.raises(UnknownName, match="table 1 of emu2 has no model 'nearest'"):
        listed(model="nearest")


def test_one_evaluation_takes_the_tasks_of_one_setting() -> None:
    ((tasks, options),) = together(listed(), RunOptions())
    assert tasks == ["vqav2", "okvqa", "vizwiz", "textvqa", "hateful_memes"]
    assert (options.protocol, options.split, options.shots) == (
        "emu2",
        None,
        ("0", "4", "8", "16"),
    )
    assert len(together(listed(hidden=True), RunOptions())) == 3


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' own
def test_a_tiny_emu2_from_one_command(
    root: Path, tmp_path: Path, command: Command, tiny_emu2: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [
        *("reproduce", "emu2", "--table", "1", "--model", tiny_emu2, "--against", "emu2"),
        *("--partial", *FEATURES, "--out", "runs", "-f", "json"),
    ]
    made = json.loads(command(*asked))
    measured = {
        (n["column"], n["shots"]): n
        for n in made["tables"][0]["numbers"]
        if n["source"] == "measured" and n["value"] is not None
    }
    assert set(measured) == {
        (task, shots) for task in ("okvqa", "hateful_memes") for shots in ("0", "4", "8", "16")
    }
    found = measured["okvqa", "4"]
    assert (found["published"], found["n"], found["model"]) == (53.2, 4, "tiny-emu2")
    assert found["why"] == [f"changed settings: {CHANGES[0]}"]
    assert found["verdict"] == "not comparable"
    before = answers(Path("runs"))
    assert before == sum(n["n"] for n in measured.values())
    # The same again asks nothing; in words it says what came of each published number.
    said = command(*asked[:-2])
    assert answers(Path("runs")) == before
    assert "Emu2 (37B)" in said and "tiny-emu2, measured" in said
    assert "12 not measured, 8 not comparable" in said.replace("\n", " ")
    # An estimate alone, from what is stored.
    assert "about 0 s left" in command(*asked[:-2], "--dry-run")


def test_time_is_told_from_requests_that_are_kept(
    root: Path, make_model: Callable[..., Path], tmp_path: Path
) -> None:
    robot = str(make_model("robot", delay=0.01))
    options = RunOptions.of(changes=CHANGES, out=tmp_path / "runs")
    able = [
        WantedColumn(each.column, "train", ("0",)) for each in listed("okvqa")
    ]  # the training split: twenty queries
    (before,) = costs_of(able, robot, options)
    assert (before.requests, before.answered, before.seconds, before.left) == (20, 0, None, None)
    (cost,) = estimate(able, robot, options)
    assert (cost.answered, cost.timed) == (8, 8)
    assert cost.seconds is not None and cost.left == pytest.approx(12 * cost.seconds)
    (again,) = estimate(able, robot, options)
    assert (again, answers(tmp_path / "runs")) == (cost, 8)


@pytest.mark.slow
def test_everything_missing_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process of its own: no data, no encoder, no weights, too little memory; no traceback."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "emu2eval.cli", "reproduce", "emu2", "--table", "1"),
            *("--model", "emu2", "--set", "model.settings.memory=cpu:64GiB"),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    told = done.stderr
    assert told.startswith("error: 8 things are missing:\n1. BAAI/Emu2 is not on this machine")
    assert "hf download BAAI/Emu2 --local-dir Emu2" in told
    assert "the model does not fit" in told and "available memory 64.0 GiB" in told
    assert told.count("the encoder openai/clip-vit-large-patch14 is not on this machine") == 1
    for task in ("vqav2", "okvqa", "vizwiz", "textvqa", "hateful_memes"):
        assert f"data of {task} " in told
    assert not Path("results").exists()


def test_what_is_there_can_be_measured_alone(root: Path, make_model: Callable[..., Path]) -> None:
    robot = str(make_model("robot"))
    options = RunOptions.of(changes=CHANGES)
    of_model, of_columns = missing(listed(), robot, options)
    assert of_model == []
    assert [name for name, lacks in of_columns.items() if not lacks] == ["okvqa", "hateful_memes"]
    with pytest.raises(NotReady, match="3 things are missing") as caught:
        ready(listed(), robot, options)
    assert caught.value.hint == "to measure what is possible: --partial (OK-VQA, Hateful Memes)"
    able, lacks = ready(listed(), robot, options, partial=True)
    assert [each.column.id for each in able] == ["okvqa", "hateful_memes"]
    assert len(lacks) == 3
    with pytest.raises(NotReady, match="one thing is missing"):
        ready(listed("vqav2"), robot, options, partial=True)


def test_protocols_tasks_and_models_that_are_not_here(make_model: Callable[..., Path]) -> None:
    paper = load_paper("flamingo")
    flamingo = wanted(paper, paper.table("3"), "Flamingo (9B)", ["okvqa"])
    with pytest.raises(NotReady, match="OK-VQA: no protocol of okvqa matches the paper's"):
        ready(flamingo, str(make_model("robot")), RunOptions())
    of_model, of_columns = missing(listed("okvqa"), "emu3", RunOptions())
    assert len(of_model) == 1 and "unknown model 'emu3'" in of_model[0]
    assert len(of_columns["okvqa"]) >= 1


def test_stored_runs_stand_beside_a_paper(
    root: Path, command: Command, make_model: Callable[..., Path]
) -> None:
    model = str(make_model("emu2"))
    command("run", "--task", "okvqa", "--protocol", "emu2", "--model", model, "--shots", "0")
    command("run", "--task", "okvqa", "--model", "most-common", "--shots", "4", "--limit", "3")
    shown = command("table", "--paper", "emu2", "--table", "1", "-f", "markdown")
    assert "| emu2, measured | 0 |" in shown
    assert "OK-VQA: protocol plain; the paper's is emu2" in shown
    assert "OK-VQA: a subset, 3 of 4 queries" in shown
    assert shown.count("**") == 2
    assert command("table", "--paper", "emu2", "-f", "markdown").count("**") == 2 * 6
    # One run alone, and references where no run is named.
    assert "most-common" not in command("table", "okvqa_0-shot", "--paper", "emu2", "-f", "csv")
    command("keep", "okvqa_0-shot")
    for path in sorted(catalog.results_root().rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    assert "| emu2, measured | 0 |" in command("table", "--paper", "emu2", "-f", "markdown")


def test_tables_of_papers_are_for_papers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["emu2eval", "table", "--table", "1"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
