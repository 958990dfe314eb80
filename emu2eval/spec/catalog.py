"""Where task and model files are found. Imports next to nothing, so that listing them is instant."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from emu2eval.errors import ConfigError, UnknownName
from emu2eval.spec.elsewhere import said_elsewhere

_HERE = Path(__file__).parent.parent
_FOLDERS = {"task": "tasks", "model": "models", "paper": "results/published"}
_SUITES = "suites"
"""The folder of suites, within that of the tasks."""


def data_root() -> Path:
    """The folder of benchmark data: $EMU2EVAL_DATA, else ./data."""
    return Path(os.environ.get("EMU2EVAL_DATA") or "data")


def results_root() -> Path:
    """The folder of runs: $EMU2EVAL_RUNS, else ./results/runs."""
    return Path(os.environ.get("EMU2EVAL_RUNS") or "results/runs")


def cache_root() -> Path:
    """The folder of what can be computed again, such as image features: $EMU2EVAL_CACHE, else
    ~/.cache/emu2eval."""
    return Path(os.environ.get("EMU2EVAL_CACHE") or "~/.cache/emu2eval").expanduser()


def references_root() -> Path:
    """The folder of reference runs: ./results/reference."""
    return Path("results/reference")


def shipped(kind: str) -> Path:
    """The folder of what comes with the package; kind: "task", "suite", "model" or "paper"."""
    if kind == "suite":
        return shipped("task") / _SUITES
    folder = Path(_FOLDERS[kind])
    installed = _HERE / folder.name
    # In a checkout the folders stand beside the package, where people look for them.
    return installed if installed.is_dir() else _HERE.parent / folder


def portable(kind: str, path: Path) -> str:
    """A path as records hold it: below the shipped folder relative to it, else absolute."""
    whole, top = path.resolve(), shipped(kind).resolve()
    return str(whole.relative_to(top) if whole.is_relative_to(top) else whole)


def located(kind: str, recorded: str) -> Path:
    """The path that `portable` made a record of; it need not exist."""
    return shipped(kind) / recorded  # an absolute path stays what it is


def names(kind: str) -> dict[str, Path]:
    """All that is shipped of a kind by name, with its file; a folder may hold its own `model.yaml`."""
    folder = shipped(kind)
    found = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    for path in sorted(folder.glob(f"*/{kind}.yaml")):
        found[path.parent.name] = path
    return dict(sorted(found.items()))


def is_path(name: str) -> bool:
    """The name is meant as a path, and not as that of something shipped."""
    return name.endswith((".yaml", ".yml")) or "/" in name or os.sep in name


def find_file(kind: str, name: str) -> Path:
    """The YAML file of a shipped name, of a path to a file, or of a folder that holds one.

    Raises UnknownName with the nearest names, or ConfigError where a path is not there.
    """
    if not is_path(name):
        known = names(kind)
        if name in known:
            return known[name]
        if kind == "task" and name in names("suite"):
            raise ConfigError(
                f"{name} is a suite, but a single task is needed here",
                hint=f"for its tasks: emu2eval ls suites; to run them all: emu2eval run --task {name}",
            )
        own = _beside(name)
        if own is not None:  # a name that looks alike would only lead astray
            raise ConfigError(
                f"unknown {kind} {name!r}", hint=f"to use {own} in this folder: ./{own}"
            )
        listed = [*known, *names("suite")] if kind == "task" else known
        elsewhere = said_elsewhere(name) if kind == "task" else None
        raise UnknownName(kind, name, listed, hint=elsewhere or _own(kind))
    path = Path(name)
    file = path / f"{kind}.yaml" if path.is_dir() else path
    if not file.is_file():
        raise ConfigError(
            f"no {kind}.yaml in this folder"
            if path.is_dir()
            else ("this model file or folder" if kind == "model" else f"this {kind} file")
            + " does not exist",
            where=path,
            hint=f"give the path of {_PATHS.get(kind, 'a .yaml file')}, or a name from: emu2eval ls {kind}s",
        )
    return file


_PATHS = {"model": "a .yaml file or of a checkpoint's folder"}


def _beside(name: str) -> str | None:
    """The YAML file of this name in the current folder, if any."""
    return next((name + end for end in (".yaml", ".yml") if Path(name + end).is_file()), None)


def _own(kind: str) -> str:
    """How to name one's own file, where the name is none that is shipped."""
    hint = f"for a list: emu2eval ls {kind}s; for your own {kind}, give the path of its .yaml file"
    return f"{hint} or of its checkpoint's folder" if kind == "model" else hint


def titles(kind: str) -> Iterator[tuple[str, str]]:
    """(name, title) of what is shipped, read without a YAML parser for speed."""
    for name, path in names(kind).items():
        title = ""
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("title:"):
                    title = line.removeprefix("title:").strip().strip("\"'")
                    break
        yield name, title
