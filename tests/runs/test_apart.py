"""Runs that would look the same are told apart by what differs between them, in every view."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emu2eval import evaluate, load_runs
from emu2eval.runs.apart import labels, read_table_run, told_apart
from emu2eval.runs.record import read_record
from emu2eval.spec import catalog


@pytest.fixture
def runs(make_task: Any, make_model: Any, tmp_path: Path) -> Callable[..., list[Path]]:
    """The folders of runs of one model, each with changes of its own."""
    task, model = str(make_task(queries=3)), str(make_model(name="robot"))

    def made(*each: Any, **more: Any) -> list[Path]:
        out = tmp_path / "runs"
        return [
            evaluate(task, model, changes=changes, out=out, **more)[0].folder for changes in each
        ]

    return made


def named(folders: list[Path], **more: Any) -> list[str]:
    return labels([read_record(folder) for folder in folders], **more)


def test_one_run_has_its_models_name(runs: Any) -> None:
    assert named(runs([])) == ["robot"]


def test_a_setting_a_words_length_and_a_template(runs: Any) -> None:
    changes: list[list[str]] = [
        [],
        ["model.settings.default=blue"],
        ["task.output.max_new_tokens=3"],
        ["task.protocols.plain.ask={image}{question} Short answer:"],
    ]
    plain, default, tokens, template = named(runs(*changes))
    assert plain.startswith("robot (")
    assert "default=blue" in default and "max_new_tokens=3" in tokens
    assert len({plain, default, tokens, template}) == 4
    assert all(len(name) < 100 for name in (plain, default, tokens, template))


def test_settings_that_suffice_are_all_that_is_said(runs: Any) -> None:
    found = named(runs(["model.settings.default=blue"], ["model.settings.default=red"]))
    assert found == ["robot (default=blue)", "robot (default=red)"]


def test_checkpoints_of_one_name_in_two_folders(
    make_task: Any, tmp_path: Path, program: Any
) -> None:
    """As many last parts of their paths as tell them apart, also in the table that `run` prints."""
    task = str(make_task(queries=3))
    models = []
    for place in ("a", "b"):
        path = tmp_path / place / "step-60/model.yaml"
        path.parent.mkdir(parents=True)
        settings = f"{{default: {tmp_path}/{place}/step-60}}"
        path.write_text(f"name: step-60\nadapter: scripted\nsettings: {settings}\n")
        models.append(str(path.parent))
    code, out, _ = program("run", "--task", task, "--model", *models, "--shots", "0", "2")
    assert code == 0
    assert "step-60 (default=a/step-60)" in out and "step-60 (default=b/step-60)" in out


def test_a_line_is_of_one_setting_at_every_number_of_shots(runs: Any) -> None:
    both = runs(["model.settings.default=blue"], ["model.settings.default=red"], shots=0)
    more = runs(["model.settings.default=red"], shots=2)
    assert named([*both, *more])[1:] == ["robot (default=red)"] * 2


def test_seeds_are_a_column_of_a_table_and_a_line_of_a_leaderboard(runs: Any) -> None:
    folders = [*runs([], shots=2), *runs([], shots=2, seed=5)]
    assert named(folders) == ["robot", "robot"]
    assert named(folders, seeds=True) == ["robot", "robot (seed=5)"]


def test_another_checkpoint_under_one_name(make_task: Any, tmp_path: Path) -> None:
    task = str(make_task(queries=2))
    folders = [
        evaluate(
            task,
            "emu2-nano",
            changes=[f"model.settings.checkpoint={catalog.names('model')[name].parent}"],
            out=tmp_path / "runs",
        )[0].folder
        for name in ("emu2-nano-early-1", "emu2-nano-early-2")
    ]
    assert named(folders) == [
        "emu2-nano (checkpoint=emu2-nano-early-1)",
        "emu2-nano (checkpoint=emu2-nano-early-2)",
    ]


def test_a_record_that_cannot_be_read_costs_no_row(runs: Any) -> None:
    folders = runs(["model.settings.default=blue"], ["model.settings.default=red"])
    (folders[0] / "run.json").write_text("{")
    shown = told_apart([read_table_run(folder) for folder in folders])
    assert [run.rows[0].model for run in shown] == ["robot", "robot"]


def test_every_view_tells_them_apart(runs: Any, program: Any, tmp_path: Path) -> None:
    folders = runs(["model.settings.default=blue"], ["model.settings.default=red"])
    out = str(folders[0].parent)
    names = {"robot (default=blue)", "robot (default=red)"}
    for view in (["table"], ["table", "--pivot"]):
        code, printed, _ = program(*view, "--out", out, "-f", "json")
        assert code == 0 and {row["model"] for row in json.loads(printed)} == names
    frame = load_runs(folders)
    assert set(frame["label"]) == names
    assert frame.groupby(["task", "label"])["value"].count().tolist() == [3, 3]
    assert set(load_runs(folders, rows=True)["label"]) == names
    for file in ("page.html", "curves.svg"):
        verb = (
            ["report", "--out", out, "--file"]
            if file == "page.html"
            else ["curves", "--out", out, "--file"]
        )
        assert program(*verb, str(tmp_path / file))[0] == 0
        text = (tmp_path / file).read_text()
        assert all(name in text for name in names)
