"""Stored runs, found by path or name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from emu2eval.errors import StoreError, UnknownName
from emu2eval.runs.parts import DEAL, FOLDER, unmerged
from emu2eval.runs.record import RECORD, is_run
from emu2eval.spec import catalog

_FILES = frozenset((".html .json .jsonl .csv .md .tex .png .svg .pdf .yaml").split())
"""Endings that no folder of runs has."""


def folders(root: Path | None = None, *, parts: bool = False) -> list[Path]:
    """The folders of all runs below the results folder, by name. parts: those that are only in parts too."""
    top = root or catalog.results_root()
    if top.suffix in _FILES and not top.is_dir():
        raise StoreError(
            f"--out must be the folder of runs, not the file {top}",
            hint=f"to name the output file: --file {top}",
        )
    found = {path.parent for path in top.glob(f"*/{RECORD}")}
    if parts:
        found |= set(in_parts(top))
    return sorted(found)


def in_parts(root: Path | None = None) -> list[Path]:
    """The folders of all runs that have parts (`run --part`), by name."""
    top = root or catalog.results_root()
    return sorted(path.parent.parent for path in top.glob(f"*/{FOLDER}/{DEAL}"))


def find(names: Sequence[str], root: Path | None = None, *, parts: bool = False) -> list[Path]:
    """Runs by path, by name, by the beginning of a name, or, for a folder of runs, all in it.

    A name that is whole but for the hash at its end means that one, and not others that begin with it.
    parts: as of `folders`. Raises UnknownName where nothing fits, StoreError for one that is only in parts.
    """
    if not names:
        return folders(root, parts=parts)
    found: list[Path] = []
    known = {path.name: path for path in folders(root, parts=parts)}
    for name in names:
        path = Path(name)
        if is_run(path) or (parts and (path / FOLDER / DEAL).is_file()):
            found.append(path)
        elif path.is_dir() and folders(path, parts=parts):
            found += folders(path, parts=parts)
        elif fitting := [k for k in known if k.startswith(name)]:
            whole = [k for k in fitting if k.rpartition("_")[0] == name]
            found += [known[k] for k in whole or fitting]
        elif (alone := _only_in_parts(path, name, root)) is not None:
            raise StoreError(str(unmerged(alone)), where=alone, hint=f"emu2eval merge {alone.name}")
        else:
            raise UnknownName("run", name, known, where=root or catalog.results_root())
    return list(dict.fromkeys(found))


def _only_in_parts(path: Path, name: str, root: Path | None) -> Path | None:
    """The run of that name that is only in parts."""
    if (path / FOLDER / DEAL).is_file():
        return path
    return next((each for each in in_parts(root) if each.name.startswith(name)), None)


def one(name: str, root: Path | None = None) -> Path:
    """The one run of that name. Raises UnknownName where there is none, StoreError where several fit."""
    found = find([name], root)
    if len(found) > 1:
        raise StoreError(
            f"{len(found)} runs match {name!r}",
            hint="name one: " + ", ".join(folder.name for folder in found[:5]),
        )
    return found[0]
