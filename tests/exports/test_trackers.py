"""Stored runs as frames, and in the formats of other tools."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

import emu2eval
from emu2eval import evaluate
from emu2eval.cli import app
from emu2eval.doctor.reference import keep
from emu2eval.errors import MissingExtra, StoreError, UnknownName
from emu2eval.exports.stored import read
from emu2eval.exports.trackers import render
from emu2eval.runs.record import read_record, write_record
from emu2eval.types import Row


@pytest.fixture
def runs(make_task: object, make_model: object) -> list[Path]:
    """Two runs of the default folder: all answered, and one with a request that failed."""
    task = make_task(queries=6)  # type: ignore[operator]
    robot = make_model("robot", default="red", fail=["square 3"])  # type: ignore[operator]
    whole = evaluate(str(task), "most-common", shots=[2], trials=2)
    failing = evaluate(str(task), str(robot), shots=[0])
    return [result.folder for result in (*whole, *failing)]


def test_one_row_a_sample_and_trial(runs: list[Path]) -> None:
    frame = emu2eval.load_runs()
    assert len(frame) == 2 * 6 + 6
    assert set(frame["model"]) == {"most-common", "robot"}
    failed = frame[frame["id"].eq("q0003") & frame["model"].eq("robot")]
    assert math.isnan(failed["value"].item())
    assert set(frame["group.kind"]) == {"odd", "even"}
    assert set(frame["take"]) == {0} and set(frame["shots"]) == {"2", "0"}
    # The mean over a frame is the number of the table.
    table = emu2eval.load_runs(rows=True)
    whole = table[table["group"].isna() & table["model"].eq("most-common")]
    mean = frame[frame["model"].eq("most-common")]["value"].mean()
    assert whole["value"].item() == pytest.approx(100 * mean)
    assert whole["shots"].item() == "2" and whole["ablation"].item() == "none"
    assert set(table.columns) == {*Row.__struct_fields__, "label", "series", "step"}


def test_paths_names_and_references(runs: list[Path], tmp_path: Path) -> None:
    first, second = runs
    assert set(emu2eval.load_runs(first)["run"]) == {first.name}
    assert set(emu2eval.load_runs("squares_0-shot")["run"]) == {second.name}
    assert len(emu2eval.load_runs([first, second])) == 18
    keep(first, tmp_path / "references")
    kept, stored = emu2eval.load_runs(tmp_path / "references"), emu2eval.load_runs(first)
    assert kept["value"].tolist() == stored["value"].tolist()
    with pytest.raises(UnknownName):
        emu2eval.load_runs("nothing")


@pytest.mark.parametrize("rows", [True, False])
def test_a_damaged_run_costs_only_itself(runs: list[Path], rows: bool) -> None:
    first, second = runs
    (first / "report.json").write_bytes(b"\xff")
    with pytest.warns(UserWarning, match="skipped: cannot read the report"):
        frame = emu2eval.load_runs(rows=rows)
    assert set(frame["run"]) == {second.name}
    with pytest.raises(StoreError, match="cannot read the report"):
        emu2eval.load_runs(first, rows=rows)


def test_without_pandas(runs: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtra, match="load_runs needs the package 'pandas'") as caught:
        emu2eval.load_runs()
    assert caught.value.hint == "pip install 'emu2eval[data]'"


def test_wandb(runs: list[Path]) -> None:
    lines = [json.loads(line) for line in render(read(runs).read, "wandb").splitlines()]
    assert [line["name"] for line in lines] == [folder.name for folder in runs]
    assert lines[1]["summary"]["squares/exact_match/unscored"] == 1
    config = lines[0]["config"]
    assert (config["shots"], config["ablation"], config["trials"]) == ("2", "none", 2)
    assert "squares/kind: odd/exact_match/value" in lines[0]["summary"]
    table = lines[0]["table"]
    assert all(len(row) == len(table["columns"]) for row in table["data"])


@pytest.mark.filterwarnings("ignore::DeprecationWarning:huggingface_hub.*")
def test_the_hub_reads_its_own_format(runs: list[Path], tmp_path: Path) -> None:
    cards = pytest.importorskip("huggingface_hub.repocard", reason="the hub's client reads it")
    data = pytest.importorskip("huggingface_hub.repocard_data", reason="the hub's client reads it")
    path = tmp_path / "card.md"
    path.write_text(render(read(runs).read, "model-index"), encoding="utf-8")
    index = cards.metadata_load(path)["model-index"]
    assert [entry["name"] for entry in index] == ["most-common", "robot"]
    _, results = data.model_index_to_eval_results(index[:1])
    (result,) = results
    assert (result.dataset_split, result.metric_type) == ("test", "exact_match")
    (row,) = [r for r in emu2eval.load_runs(runs[0], rows=True).itertuples() if r.group != r.group]
    assert result.metric_value == row.value
    assert result.metric_args["shots"] == "2" and result.metric_args["covered"] == 6
    assert "imported" not in result.metric_args


@pytest.mark.parametrize("spec", [{}, {"data": 1}, {"data": {"sources": {"hub": 1}}}])
def test_a_record_that_lost_its_tasks_keys_is_exported(
    runs: list[Path], spec: dict[str, Any]
) -> None:
    record = read_record(runs[0])
    write_record(
        runs[0],
        msgspec.structs.replace(record, task=msgspec.structs.replace(record.task, spec=spec)),
    )
    assert "name: squares" in render(read(runs).read, "model-index")


def test_by_command(runs: list[Path], tmp_path: Path) -> None:
    from typer.testing import CliRunner

    run = CliRunner()
    done = run.invoke(app, ["export", "squares", "--format", "model-index", "--file", "card.md"])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "card.md").read_text().startswith("---\nmodel-index:\n")
    done = run.invoke(app, ["export", "--format", "wandb"])
    assert done.exit_code == 0 and len(done.stdout.splitlines()) == 2


def test_what_cannot_be_exported(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean 'wandb'"):
        render(read(runs).read, "wand")
    with pytest.raises(StoreError, match="no scored runs"):
        render([], "wandb")
