"""Stored runs, found by path or name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from emu2eval.errors import StoreError, UnknownName
from emu2eval.runs.record import RECORD, is_run
from emu2eval.spec import catalog

_FILES = frozenset((".html .json .jsonl .csv .md .tex .png .svg .pdf .yaml").split())
"""Endings that no folder of runs has."""


def folders(root: Path | None = None) -> list[Path]:
    """The folders of all runs below the results folder, by name."""
    top = root or catalog.results_root()
    if top.suffix in _FILES and not top.is_dir():
        raise StoreError(
            f"--out must be the folder of runs, not the file {top}",
            hint=f"to name the output file: --file {top}",
        )
    return sorted(path.parent for path in top.glob(f"*/{RECORD}"))


def find(names: Sequence[str], root: Path | None = None) -> list[Path]:
    """Runs by path, by name, by the beginning of a name, or, for a folder of runs, all in it.

    A name that is whole but for the hash at its end means that one, and not others that begin with it.
    Raises UnknownName where nothing fits.
    """
    if not names:
        return folders(root)
    found: list[Path] = []
    known = {path.name: path for path in folders(root)}
    for name in names:
        path = Path(name)
        if is_run(path):
            found.append(path)
        elif path.is_dir() and folders(path):
            found += folders(path)
        elif fitting := [k for k in known if k.startswith(name)]:
            whole = [k for k in fitting if k.rpartition("_")[0] == name]
            found += [known[k] for k in whole or fitting]
        else:
            raise UnknownName("run", name, known, where=root or catalog.results_root())
    return list(dict.fromkeys(found))


def one(name: str, root: Path | None = None) -> Path:
    """The one run of that name. Raises UnknownName where there is none, StoreError where several fit."""
    found = find([name], root)
    if len(found) > 1:
        raise StoreError(
            f"{len(found)} runs match {name!r}",
            hint="name one: " + ", ".join(folder.name for folder in found[:5]),
        )
    return found[0]
