"""Task, model and paper files: what is wrong with one is told with its line, all of it together."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from emu2eval.engine.models import open_model
from emu2eval.errors import ConfigError, Several, UnknownName, UserError
from emu2eval.papers.published import load_paper
from emu2eval.spec import catalog
from emu2eval.spec.changes import Changes
from emu2eval.spec.model import load_model
from emu2eval.spec.task import Reachable, TaskSpec, load_task
from emu2eval.spec.yamlfile import Document, validate

TASK = """
name: sums
title: Sums
data:
  reader: table
  splits: {test: {files: a.csv}}
split: test
score: {scorer: exact_match}
protocol: plain
protocols:
  plain: {ask: "{question}"}
"""


@pytest.fixture
def task(tmp_path: Path) -> Path:
    path = tmp_path / "sums.yaml"
    path.write_text(TASK)
    return path


def told(path: Path) -> list[tuple[str, str]]:
    """(what, line) of each fault."""
    with pytest.raises(UserError) as caught:
        load_task(os.fspath(path))
    return [(e.what, str(e.where).removeprefix(f"{path}:")) for e in caught.value.parts]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("reader: table", "readr: table", [
            ("unknown key 'readr'; did you mean 'reader'?", "5"),
            ("data needs the key 'reader'", "4"),
        ]),
        ("split: test\n", "split: 3\n", [("split: expected a string, got an integer", "7")]),
        ("score: {scorer: exact_match}", "score: exact_match", [
            ("score: expected a mapping, got a string", "8"),
        ]),
        ("score: {scorer: exact_match}", "score: {scorer: exact_match, clean: strip}", [
            ("score.clean: expected a list, got a string", "8"),
        ]),
        ("plain: {ask", "plain: {text_only: 0, ask", [
            ("protocols.plain.text_only: expected an integer of at least 1, got 0", "11"),
        ]),
        ("title: Sums\n", "", [("the file needs the key 'title'", "2")]),
        ("title: Sums\n", "titel: Sums\noutput: {max_new_token: 3, beams: 0}\n", [
            ("unknown key 'titel'; did you mean 'title'?", "3"),
            ("unknown key 'max_new_token'; did you mean 'max_new_tokens'?", "4"),
            ("output.beams: expected an integer of at least 1, or null, got 0", "4"),
            ("the file needs the key 'title'", "2"),
        ]),
    ],
)  # fmt: skip
def test_faults_of_a_task_file(task: Path, old: str, new: str, says: list[tuple[str, str]]) -> None:
    assert old in TASK
    task.write_text(TASK.replace(old, new))
    assert sorted(told(task)) == sorted(says)


def test_a_spec_survives_json(task: Path) -> None:
    task.write_text(TASK + "bounds: {test: {chance: {0: 0, 4: 50}}}\n")
    spec = load_task(os.fspath(task)).spec
    assert spec.bounds == {"test": Reachable(chance={0: 0.0, 4: 50.0})}
    assert validate(TaskSpec, spec.as_json(), Document(task, {})) == spec


@pytest.mark.parametrize("name", sorted(catalog.names("task")))
def test_shipped_tasks_survive_json(name: str) -> None:
    for protocol in load_task(name).spec.protocols:
        spec = load_task(name, protocol=protocol).spec
        again = validate(TaskSpec, spec.as_json(), Document(Path(name), {}))
        assert again.as_json() == spec.as_json()


def test_a_model_file_needs_its_adapter(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text("name: m\nadaptor: copy\nsettings: [batch]\n")
    with pytest.raises(Several) as caught:
        load_model(os.fspath(path))
    assert [(e.what, e.where) for e in caught.value.parts] == [
        ("unknown key 'adaptor'; did you mean 'adapter'?", f"{path}:2"),
        ("the file needs the key 'adapter'", f"{path}:1"),
        ("settings: expected a mapping, got a list", f"{path}:3"),
    ]


def test_a_paper_needs_a_table_and_known_reasons(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("title: T\nsource: S\nyear: 2024\ntables: []\n")
    with pytest.raises(ConfigError, match="tables: expected a list of at least 1, got a list"):
        load_paper(os.fspath(path))
    path.write_text(
        "title: T\nsource: S\nyear: 2024\ntables:\n"
        "- {id: a, caption: c, scale: s, columns: [], rows: [], marks: {x: {means: m, why: splits}}}\n"
    )
    with pytest.raises(ConfigError, match="did you mean 'split'") as caught:
        load_paper(os.fspath(path))
    assert caught.value.where == f"{path}:5"


def test_a_split_and_a_protocol_are_looked_for(task: Path) -> None:
    with pytest.raises(UnknownName, match="sums has no protocol 'plian'; did you mean 'plain'"):
        load_task(os.fspath(task), protocol="plian")
    with pytest.raises(UnknownName, match="sums has no split 'tset'; did you mean 'test'"):
        load_task(os.fspath(task), split="tset")


def test_faults_of_a_models_settings_are_told_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text("name: m\nadapter: openai\nsettings:\n  model: x\n  bach: 3\n  timeout: 0\n")
    changes = Changes(model={"settings.retries": -1})
    with pytest.raises(Several) as caught:
        open_model(os.fspath(path), changes)
    assert sorted((e.what, e.where) for e in caught.value.parts) == [
        ("adapter openai has no option 'bach'; did you mean 'batch'?", f"{path}:5"),
        (
            "the option 'retries' of adapter openai: expected an integer of at least 0, got -1",
            "--set model.settings.retries",
        ),
        ("the option 'timeout' of adapter openai: expected a number above 0, got 0", f"{path}:6"),
    ]
    with pytest.raises(UnknownName, match="unknown adapter 'opneai'") as unknown:
        open_model(os.fspath(path), Changes(model={"adapter": "opneai"}))
    assert unknown.value.where == "--set model.adapter"
