"""docs/how-to/experiments.md and examples/experiments, as they are written there."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from emu2eval.engine import experiment
from emu2eval.exports.results import ResultNumber, ResultRun
from emu2eval.papers.published import load_paper
from emu2eval.papers.reproduce import wanted
from emu2eval.spec.experiment import AskedSpec, ExperimentSpec, ModelEntry, read_experiment
from emu2eval.spec.task import load_task

from .conftest import MakeTask, Program

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs/how-to/experiments.md").read_text(encoding="utf-8")
EXAMPLES = ROOT / "examples/experiments"


def test_no_seed_of_an_experiment_stands_for_another(
    program: Program, tmp_path: Path, make_task: MakeTask
) -> None:
    make_task(queries=2)
    file = tmp_path / "seeds.yaml"
    file.write_text(
        "models: [most-common, nearest]\ntasks: [squares/squares.yaml]\nshots: [0, 1]\nseeds: [0, 1]\n"
    )
    code, out, told = program("run", str(file))
    assert code == 0, told
    assert "most-common (seed=1)" in out and "nearest (seed=1)" in out


def test_the_page_names_every_key_and_every_field() -> None:
    keys = {
        name
        for kind in (AskedSpec, ExperimentSpec, ModelEntry)
        for name in kind.__struct_fields__
        if name != "model"
    }
    fields = {
        field.name for kind in (ResultRun, ResultNumber) for field in msgspec.structs.fields(kind)
    }
    assert [name for name in sorted(keys | fields) if f"`{name}`" not in TEXT] == []


@pytest.mark.parametrize("number", ["1", "2", "3", "4", "5"])
def test_the_papers_tables_are_asked_as_they_were(
    number: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their tasks, splits, protocols and shots are those of the published table's columns."""
    reading = experiment._Reading
    monkeypatch.setattr(reading, "_try_task", lambda *_: None)
    monkeypatch.setattr(reading, "_model", lambda self, entry, changes: entry.model.model)
    found = set()
    for job in experiment.jobs(read_experiment(EXAMPLES / f"emu2-table{number}.yaml")):
        options, name = job.options, str(job.task)
        task = load_task(name, protocol=options.protocol, split=options.split)
        shots = tuple(str(count) for count in options.shots)
        found.add((str(job.model), name, task.split, task.protocol_name, shots))
    paper = load_paper("emu2")
    models = {str(model) for model, *_ in found}
    published = {
        (model, each.column.task, each.split, each.column.protocol, each.shots)
        for table in paper.spec.tables
        if table.id.partition("-")[0] == number
        for model in models
        for each in wanted(paper, table, model)
    }
    assert found == published


def test_the_example_that_runs_anywhere_names_what_there_is() -> None:
    names = read_experiment(EXAMPLES / "shots.yaml").spec.models
    assert names == ("most-common", "nearest", "emu2-nano")


def test_missing_data_and_a_missing_key_of_a_judge_are_told_together(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    code, _, said = program(
        "run", str(EXAMPLES / "emu2-table2.yaml"), "--task", "mm_vet", "--dry-run"
    )
    assert code == 2 and "data of mm_vet (split test) is missing" in said
    assert "OPENAI_API_KEY" in said and "emu2-table2.yaml:14" in said
