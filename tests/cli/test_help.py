"""--help of every verb: in 80 columns, with examples, in words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from emu2eval.cli import app
from emu2eval.cli.verbs import GROUPS

PROGRAM: Any = typer.main.get_command(app)


def _verbs(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, inner in command.commands.items():
        yield from _verbs(inner, (*path, name)) if hasattr(inner, "commands") else [(*path, name)]


@pytest.mark.parametrize("verb", list(_verbs(PROGRAM)), ids=" ".join)
def test_help(program: Any, verb: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, text, _ = program(*verb, "--help")
    assert code == 0 and max(map(len, text.splitlines())) <= 80
    assert "Examples:" in text and f"emu2eval {' '.join(verb)}" in text.split("Examples:")[1]
    # A value has a word, never the name of a type of Python.
    assert not re.search(r"<\w+(\[\w+\])?>", text), text
    for said in re.findall(r"\[default:\s+([^\]]*)\]", text):
        assert said not in ("None", "True", "False") and "Path" not in said


def test_every_verb_stands_under_a_heading(program: Any) -> None:
    listed = [name for names in GROUPS.values() for name in names]
    assert set(PROGRAM.commands) <= set(listed) and len(listed) == len(set(listed))
    code, text, _ = program("--help")
    assert code == 0 and "More:" not in text and "Exit codes:" in text
    assert program("--version")[1].startswith("emu2eval ")


@pytest.mark.parametrize(
    ("words", "fits"),
    [
        ("emu2eval ru", {"run"}),
        ("emu2eval run --task vl_icl_f", {"vl_icl_fast_attr_t2i", "vl_icl_fast_count_t2i"}),
        ("emu2eval run --task gqa emu2-t", {"emu2-table1", "emu2-table2", "emu2-table3"}),
        ("emu2eval run --task gqa --model near", {"nearest"}),
        ("emu2eval run --task gqa,poper", set()),
        ("emu2eval run --task gqa,pop", {"gqa,pope"}),
        ("emu2eval table a_r", {"a_run_1"}),
        ("emu2eval compare x a_r", {"a_run_1"}),
    ],
)
@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion(
    program: Any, words: str, fits: set[str], shell: str, monkeypatch: Any, tmp_path: Any
) -> None:
    folder = tmp_path / "results" / "runs" / "a_run_1"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    monkeypatch.setenv("_EMU2EVAL_COMPLETE", f"complete_{shell}")
    if shell == "bash":
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    else:
        monkeypatch.setenv("_TYPER_COMPLETE_ARGS", words)
    code, out, _ = program()
    found = re.findall(r'(?:^|\(\()"([^"]+)"', out, re.M) if shell == "zsh" else out.split()
    assert code == 0 and set(found) == fits


def test_check_looks_at_what_is_set(program: Any, make_task: Any) -> None:
    task = str(make_task())
    code, out, _ = program("check", "--task", task, "--set", "task.score.clean=[strip]")
    assert code == 0
    code, out, err = program("check", "--task", task, "--set", "task.score.clean=[strp]")
    assert code == 2 and "strip" in out + err
    assert program("data", "check", task, "--set", "task.data.root=nowhere")[0] == 2
    assert program("check", "--model", "nearest", "--set", "model.settings.x=1")[0] == 2
