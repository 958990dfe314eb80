"""The package with its core dependencies alone: each verb works, or names the extra that it needs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest

from emu2eval.errors import EXTRAS
from emu2eval.spec import catalog
from emu2eval.spec.model import load_model

from .conftest import draw, rows, write_jsonl

ROOT = Path(__file__).parents[1]

VERBS = """
import contextlib, io, json, sys
sys.path[:0] = sys.argv[1:3]
commands, found = json.loads(sys.argv[3]), []
from emu2eval import cli
from emu2eval.errors import EXTRAS
from emu2eval.spec import catalog
every = catalog.names
few = ("coco_caption", "dreambench", "vqav2", "most-common", "emu2", "openai")  # all take seconds
catalog.names = lambda kind: {k: v for k, v in every(kind).items() if sys.argv[1:] != ["check"] or k in few}
for command in commands:
    out, said = io.StringIO(), io.StringIO()
    sys.argv = ["emu2eval", *command]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(said):
        try:
            cli.main()
            code = 0
        except SystemExit as ended:
            code = ended.code or 0
    found.append((code, out.getvalue(), said.getvalue()))
json.dump(found, sys.__stdout__)
"""


def core(folder: Path) -> Path:
    """A folder of links to what a plain `pip install emu2eval` brings, and to nothing else."""
    folder.mkdir()
    wanted, known = ["emu2eval"], set()
    while wanted:
        name = wanted.pop()
        if name in known:
            continue
        known.add(name)
        found = distribution(name)
        for needed in found.requires or ():
            if ";" not in needed:  # neither an extra nor another platform
                wanted.append(re.split(r"[^\w.-]", needed)[0])
        tops = {file.parts[0] for file in found.files or () if file.parts[0] not in ("..", ".")}
        for top in tops if name != "emu2eval" else ():
            if not (folder / top).exists():
                (folder / top).symlink_to(str(found.locate_file(top)))
    return folder


def of_core(tmp_path: Path, *commands: str) -> list[tuple[int, str, str]]:
    """What each command ends with, prints and says where only the core is installed."""
    asked = json.dumps([command.split() for command in commands])
    paths = [str(ROOT), str(core(tmp_path / "core"))]
    done = subprocess.run(
        [sys.executable, "-S", "-c", VERBS, *paths, asked], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return [tuple(each) for each in json.loads(done.stdout)]


TASK = """
name: squares
title: Colours of squares
data:
  reader: table
  root: .
  options: {folder: images}
  splits: {all: {files: rows.jsonl}}
split: all
score: {scorer: exact_match}
protocol: plain
protocols: {plain: {ask: "{image}{question} Answer:"}}
"""


def test_every_extra_is_known_with_what_it_brings() -> None:
    """So that `check` lists it, and an import that fails names it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    known = {package for packages in EXTRAS.values() for package in packages}
    assert set(EXTRAS) == set(extras) - {"all", "dev", "docs"}
    brought = {
        re.split(r"[^\w-]", needed)[0]
        for name in EXTRAS
        for needed in extras[name]
        if not needed.startswith("emu2eval[")
    }
    assert brought <= known


RUN = "run --task squares.yaml --shots 2 --model"

ONE_EACH = {load_model(name).adapter: name for name in catalog.names("model")}.values()
"""A model of each adapter."""

WORK = (
    "check",
    f"{RUN} most-common",
    "ls adapters",
    "table",
    "table --pivot",
    "report",
    "show --run squares",
    "score squares",
    "diagnose squares",
    "compare squares squares",
    "keep squares",
    "data status vqav2",
)

REFUSED = {
    "run --task easy-vqa --limit 3": "pip install 'emu2eval[emu2]'; or a baseline without "
    "dependencies: --model most-common",
    "curves": "pip install 'emu2eval[plots]'",
    "plan --model emu2 --memory 24GiB": "pip install 'emu2eval[emu2]'",
    f"{RUN} org/name": "pip install 'emu2eval[hf]'",
    f"{RUN} nearest --set task.demonstrations.chooser=rices": "pip install 'emu2eval[hf]'",
    "check --model emu2-nano": "pip install 'emu2eval[emu2]'",
}


@pytest.fixture(scope="module")
def met(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, str]]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("bare")
        patch.chdir(folder)
        draw(folder / "images", rows(6))
        write_jsonl(folder / "rows.jsonl", rows(6))
        (folder / "squares.yaml").write_text(TASK)
        others = [f"{RUN} {name}" for name in ONE_EACH]
        commands = list(dict.fromkeys([*WORK, *REFUSED, *others]))
        return dict(zip(commands, of_core(folder, *commands), strict=True))


def test_what_needs_no_extra_works(met: dict[str, tuple[int, str, str]]) -> None:
    for command in WORK:
        assert met[command][0] == 0, (command, met[command])


def test_an_extra_that_is_missing_is_named_with_its_command(
    met: dict[str, tuple[int, str, str]],
) -> None:
    for command, hint in REFUSED.items():
        code, out, said = met[command]
        assert code == 2, command
        assert hint in " ".join((out + said).split()), (command, said)


@pytest.mark.parametrize("name", ONE_EACH)
def test_a_model_runs_or_names_its_extra(name: str, met: dict[str, tuple[int, str, str]]) -> None:
    code, _, said = met[f"{RUN} {name}"]
    if name in ("most-common", "nearest"):
        assert code == 0
    elif name == "copy":
        assert "squares needs text" in said
    else:
        assert code == 2
        assert re.search(r"needs the package .*\n  try:   pip install 'emu2eval\[\w+\]'", said)
