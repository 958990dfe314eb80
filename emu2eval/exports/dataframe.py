"""Stored runs as pandas frames."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emu2eval.errors import MissingExtra
from emu2eval.exports import fields
from emu2eval.runs import locate
from emu2eval.runs.apart import labels, read_table_run
from emu2eval.runs.record import Record
from emu2eval.runs.scored import ScoredRun, read_run
from emu2eval.runs.scores import read_rows
from emu2eval.runs.several import ReadRuns, read_each

if TYPE_CHECKING:
    from pandas import DataFrame


def load_runs(
    path: str | Path | Sequence[str | Path] | None = None, *, rows: bool = False
) -> DataFrame:
    """One row per sample, trial and take of every scored run at the path; with `rows`, one per table
    row.

    path: a run, a folder of runs or of references, the beginning of a name, or several of these; None =
    all stored runs. A value is on the scorer's own scale, NaN where unscored; a sample's groups are columns
    `group.NAME`. `label` is the model with what tells its runs apart here; `fingerprint` is equal for equal
    runs; `series` and `step` say of a training where the model comes from it. With `rows` a column for each
    field of `Row`. A run that cannot be read is left out, with a UserWarning that says what is wrong with
    it. Raises MissingExtra without pandas, UnknownName, or StoreError where none can be read.
    """
    pandas = pandas_for("load_runs")
    named = [path] if isinstance(path, str | Path) else list(path or ())
    folders = locate.find([str(name) for name in named])
    found: ReadRuns[Any]
    if rows:
        found = read_each(folders, read_table_run)
        names = labels([run.record for run in found.read], seeds=True)
        listed = [
            {**fields.plain(row), "label": name or row.model, **_training(run.record)}
            for run, name in zip(found.read, names, strict=True)
            for row in run.rows
        ]
    else:
        found = read_each(folders, _scored)
        scored = [run for run in found.read if run is not None]
        names = labels([run.record for run in scored], seeds=True)
        listed = [
            line for run, name in zip(scored, names, strict=True) for line in _lines(run, name)
        ]
    for error in found.lost:
        warnings.warn(f"skipped: {error}", stacklevel=2)
    return pandas.DataFrame(listed)


def pandas_for(why: str) -> Any:
    """The module. Raises MissingExtra."""
    try:
        import pandas
    except ImportError:
        raise MissingExtra("pandas", "data", why=why) from None
    return pandas


def _scored(folder: Path) -> ScoredRun | None:
    return read_run(folder) if read_rows(folder) else None


def _training(record: Record | None) -> dict[str, Any]:
    training = record.model.training if record is not None else None
    return {
        "series": None if training is None else training.series,
        "step": None if training is None else training.step,
    }


def _lines(run: ScoredRun, label: str) -> Iterator[dict[str, Any]]:
    record, head = run.record, run.rows[0]
    about = {
        "run": run.name,
        "fingerprint": record.fingerprint,
        "label": label,
        "task": run.task,
        "version": record.identity.task.version,
        "split": record.task.split,
        "protocol": record.task.protocol,
        "imported": head.imported,
        "model": run.model,
        "shots": str(record.shots),
        "ablation": record.ablation,
        "seed": record.seed,
        "metric": head.metric,
        "variant": head.variant,
        "judge": head.judge,
        "encoder": head.encoder,
        "changes": "; ".join(record.changes.assignments()),
        "limit": record.extent.limit,
        **_training(record),
    }
    for score in run.scores.values():
        yield {
            **about,
            "id": score.id,
            "trial": score.trial,
            "take": score.take,
            "value": float("nan") if score.value is None else float(score.value),
            "prediction": score.prediction,
            "why": score.why,
            "cluster": score.cluster,
            **{f"group.{name}": label for name, label in score.groups.items()},
        }
