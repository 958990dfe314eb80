"""Stored runs as pandas frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emu2eval.engine.stored import StoredRun, read_run
from emu2eval.errors import MissingExtra
from emu2eval.runs import locate

if TYPE_CHECKING:
    from pandas import DataFrame


def load_runs(
    path: str | Path | Sequence[str | Path] | None = None, *, rows: bool = False
) -> DataFrame:
    """One row a sample and trial of every scored run at the path; or, with `rows`, one row of a table.

    path: a run, a folder of runs or of references, the beginning of a name, or several of these; None =
    all stored runs. A value is on the scorer's own scale, NaN where unscored; a sample's groups are columns
    `group.NAME`. Raises MissingExtra without pandas, UnknownName or StoreError.
    """
    try:
        import pandas
    except ImportError:
        raise MissingExtra("pandas", "data", why="load_runs") from None
    named = [path] if isinstance(path, str | Path) else list(path or ())
    folders = locate.find([str(name) for name in named])
    if rows:
        listed = [asdict(row) for folder in folders for row in locate.rows(folder)]
        return pandas.DataFrame(listed)
    scored = [folder for folder in folders if locate.rows(folder)]
    return pandas.DataFrame([line for folder in scored for line in _lines(read_run(folder))])


def _lines(run: StoredRun) -> Iterator[dict[str, Any]]:
    about = {
        "run": run.folder.name,
        "task": run.task,
        "split": run.record["split"],
        "protocol": run.record["protocol"],
        "model": run.model,
        "shots": run.shots,
    }
    for answer in run.answers.values():
        yield {
            **about,
            "id": answer.id,
            "trial": answer.trial,
            "value": float("nan") if answer.value is None else float(answer.value),
            "prediction": answer.prediction,
            "cluster": answer.cluster,
            **{f"group.{name}": label for name, label in answer.groups.items()},
        }
