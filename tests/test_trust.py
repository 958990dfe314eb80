"""Whose code a file or a record may name: what a stranger sends runs nothing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from emu2eval import ConfigError, evaluate, registry
from emu2eval.runs.record import read_record, write_record
from emu2eval.trust import named_by, trusting

MINE = """
import os
from os import system
from emu2eval import Score, Scorer

class Lenient(Scorer):
    outputs = frozenset({"text"})
    metric = "lenience"
    def score(self, sample, response):
        return Score(1.0)

def shout(text):
    return text.upper()
"""


@pytest.fixture
def mine(tmp_path: Path) -> Any:
    """A folder with a module of its own; what was imported from it is forgotten afterwards."""
    folder, before = tmp_path / "theirs", list(sys.path)
    folder.mkdir()
    (folder / "parts_of_mine.py").write_text(MINE)
    yield folder
    sys.path[:] = before
    sys.modules.pop("parts_of_mine", None)


@pytest.mark.parametrize("kind", sorted(registry.BUILT_IN))
@pytest.mark.parametrize(
    "name", ["os:system", "subprocess:getoutput", "builtins:eval", "yaml:load", "numpy:save"]
)
def test_what_is_neither_beside_the_file_nor_here_is_not_imported(kind: str, name: str) -> None:
    with named_by(Path(__file__).parent), pytest.raises(ConfigError) as caught:
        registry.find(kind, name)
    assert "--trust" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("parts_of_mine:os.system", "names the module os"),
        ("parts_of_mine:system", "not defined in"),
    ],
)
def test_a_module_of_ones_own_lends_nothing_that_it_imports(
    mine: Path, name: str, why: str
) -> None:
    with named_by(mine), pytest.raises(ConfigError, match=why):
        registry.find("cleaner", name)


def test_a_file_brings_the_code_beside_it(mine: Path) -> None:
    with named_by(mine):
        assert registry.find("scorer", "parts_of_mine:Lenient").__name__ == "Lenient"
        assert registry.find("cleaner", "parts_of_mine:shout")("a") == "A"


def test_nothing_is_called_to_find_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    touched = tmp_path / "touched"
    (tmp_path / "elsewhere" / "sly_module.py").write_text(f"open({str(touched)!r}, 'w')")
    monkeypatch.syspath_prepend(str(tmp_path / "elsewhere"))
    monkeypatch.chdir(tmp_path / "elsewhere" / "..")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with named_by(tmp_path / "here"), pytest.raises(ConfigError, match="neither next to"):
        registry.find("scorer", "sly_module:Anything")
    assert not touched.exists()


def rewritten(folder: Path, score: dict[str, Any]) -> None:
    """The record of a run with another scoring, its checksum right: a stranger can make one, too."""
    record = read_record(folder)
    spec = {**record.task.spec, "score": score}
    write_record(folder, replace(record, task=replace(record.task, spec=spec)))


def test_a_record_names_no_code(
    mine: Path, make_task: Any, make_model: Any, program: Any, tmp_path: Path
) -> None:
    task = make_task(score={"scorer": "parts_of_mine:Lenient"})
    (task.parent / "parts_of_mine.py").write_text(MINE)
    (result,) = evaluate(str(task), str(make_model()), limit=2, out=tmp_path / "runs")
    assert result.rows[0].value == 100.0
    del sys.modules["parts_of_mine"]
    code, _, errors = program("score", str(result.folder))
    assert code == 2
    assert "names code" in errors and "--trust" in errors
    for verb in ("report", "table"):
        program(verb, str(result.folder))
    assert "parts_of_mine" not in sys.modules
    code, *_ = program("score", str(result.folder), "--trust")
    assert code == 0
    # What the user says is not the record's word.
    rewritten(result.folder, {"scorer": "exact_match"})
    own = ["--set", "task.score.scorer=parts_of_mine:Lenient"]
    sys.modules.pop("parts_of_mine", None)
    code, _, errors = program("score", str(result.folder), *own)
    assert code == 0, errors


def test_a_strangers_record_runs_nothing(
    make_task: Any, make_model: Any, program: Any, tmp_path: Path
) -> None:
    (result,) = evaluate(str(make_task()), str(make_model()), limit=2, out=tmp_path / "runs")
    touched = tmp_path / "touched"
    rewritten(result.folder, {"scorer": "os:system", "options": {"command": f"touch {touched}"}})
    code, _, errors = program("score", str(result.folder))
    assert code == 2 and "names code" in errors
    for verb in ("report", "table", "explain"):
        program(verb, str(result.folder))
    program("show", "--run", str(result.folder))
    assert not touched.exists()


def test_consent_is_for_everything_within() -> None:
    with trusting(), named_by(None, stored=True):
        assert registry.find("cleaner", "os:getcwd")
    with pytest.raises(ConfigError):
        registry.find("cleaner", "os:getcwd")


def test_check_says_what_a_file_would_load(
    mine: Path, make_task: Any, program: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_task(score={"scorer": "parts_of_mine:Lenient", "clean": ["parts_of_mine:shout"]})
    (task.parent / "parts_of_mine.py").write_text(MINE)
    code, printed, _ = program("check", "--task", str(task))
    told = " ".join(printed.split())
    assert code == 0
    assert "names" in told and "parts_of_mine:Lenient, parts_of_mine:shout" in told
    _, printed, _ = program("check", "--task", "easy-vqa-draw")
    assert "names" not in printed


def test_a_model_file_alone_runs_no_code_of_a_checkpoint(program: Any, tmp_path: Path) -> None:
    model = tmp_path / "theirs.yaml"
    model.write_text(
        "name: theirs\nadapter: huggingface\n"
        f"settings: {{checkpoint: {tmp_path}, trust_remote_code: true}}\n"
    )
    run = ("run", "--task", "easy-vqa", "--model", str(model), "--limit", "1")
    code, _, errors = program(*run)
    assert code == 2 and "--trust" in errors
    _, _, errors = program(*run, "--trust")
    assert "Python files" not in errors
