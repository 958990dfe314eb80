"""What can be said of a command without running it: its options, and the names in it."""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatch
from typing import Any

import typer
import yaml

from emu2eval.cli import app, line
from emu2eval.papers.published import load_paper
from emu2eval.spec import catalog
from emu2eval.spec.changes import Changes
from emu2eval.spec.experiment import ExperimentSpec
from emu2eval.spec.model import ModelSpec, load_model
from emu2eval.spec.task import TaskSpec, load_task

from .blocks import ROOT, Command

PROGRAM: Any = typer.main.get_command(app)
ELSEWHERE = {
    "cd",
    "git",
    "hf",
    "lm_eval",
    "sbatch",
    "scp",
    "source",
    "ray",
    "ssh",
    "transformers",
    "unzip",
    "uv",
    "vllm",
}
"""Programs of others that pages name, whose options are not known here."""


def check(command: Command) -> None:
    """Raises AssertionError or UserError where the command cannot be right."""
    program, *words = command.words
    if program == "emu2eval":
        check_own(words)
    elif program == "pip":
        for extras in re.findall(r"emu2eval\[([\w,]+)\]", " ".join(words)):
            project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
            known = project["project"]["optional-dependencies"]
            assert set(extras.split(",")) <= set(known), extras
    elif program == "make":
        made = re.findall(r"^([\w-]+):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(words) <= set(made), words
    elif program in ("python", "python3"):
        assert words[0].startswith("-") or (ROOT / words[0]).is_file(), words
    else:
        assert program in ELSEWHERE, f"{program} is a program that no page names yet"


def check_own(words: list[str]) -> None:
    """A command line of `emu2eval`: what Typer and the catalogue say of it."""
    given = line.read(words, PROGRAM)
    verb, depth = line.named_verb(given, PROGRAM)
    if verb is None:
        assert set(words) <= {"--help", "--version"}, words
        return
    values = given[depth:]
    if {"-h", "--help", "--show-completion", "--install-completion"} & set(values):
        return
    values = [word for word in values if word not in ("--debug", "--trust")]
    try:
        params = verb.make_context(" ".join(given[:depth]), values).params
    except line.WRONG_USE as wrong:
        line.explain(wrong)
    changes = Changes.of(params.get("set_") or ())
    asked = params.get("task") or ()
    tasks = [
        name for each in ([asked] if isinstance(asked, str) else asked) for name in each.split(",")
    ]
    for name in tasks:
        _check_task(name, params, changes)
    models = params.get("model") or ()
    for name in [models] if isinstance(models, str) else models:
        if name in catalog.names("model"):
            load_model(name, overrides=changes.model)
        else:
            assert catalog.is_path(name) or given[0] == "import", f"no model {name}"
    if params.get("paper"):
        paper = load_paper(params["paper"])
        if params.get("table"):
            assert params["table"] in {t.id.partition("-")[0] for t in paper.spec.tables} | {
                t.id for t in paper.spec.tables
            }
    file = params.get("experiment")
    if isinstance(file, str) and file.startswith("examples/"):
        assert (ROOT / file).is_file(), file


def _check_task(name: str, params: dict[str, Any], changes: Changes) -> None:
    if catalog.is_path(name):
        return
    if "*" in name:
        assert any(fnmatch(known, name) for known in catalog.names("task")), name
        return
    if name in catalog.names("suite"):
        return
    split = params.get("split")
    load_task(
        name,
        protocol=params.get("protocol"),
        split=split if isinstance(split, str) and split != "all" else None,
        overrides=changes.task,
    )


_KEYS = {
    key
    for kind in (TaskSpec, ModelSpec, ExperimentSpec)
    for key in (*kind.__struct_fields__, "set")
} | {"preset"}


def check_part(text: str) -> None:
    """A part of a YAML file: it can be read, and its keys are some file's."""
    content = yaml.safe_load(text)
    assert isinstance(content, dict | list), text
    if isinstance(content, dict):
        assert set(content) <= _KEYS, set(content) - _KEYS
