"""Stored runs: found by path or name, and their rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from emu2eval.errors import StoreError, UnknownName
from emu2eval.spec import catalog
from emu2eval.types import Row


def folders(root: Path | None = None) -> list[Path]:
    """The folders of all runs below the results folder, by name."""
    top = root or catalog.results_root()
    return sorted(path.parent for path in top.glob("*/run.json"))


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
        if (path / "run.json").is_file():
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
            f"{len(found)} runs begin with {name!r}",
            hint="name one: " + ", ".join(folder.name for folder in found[:5]),
        )
    return found[0]


def rows(folder: Path) -> list[Row]:
    """The rows of a run's report, the whole first. Empty where it was never scored."""
    path = folder / "report.json"
    try:
        report = msgspec.json.decode(path.read_bytes(), type=dict[str, list[Row]])
    except FileNotFoundError:
        return []
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StoreError(
            f"the report cannot be read: {error}",
            where=path,
            hint=f"make it anew: emu2eval score {folder}",
        ) from None
    return report["rows"]
