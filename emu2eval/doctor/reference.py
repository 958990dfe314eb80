"""Reference runs: small records of runs that travel with a repository, and what differs when one is repeated.

run.json, report.json    as in a run's folder
scores.jsonl.gz          the score of each answer, packed
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from emu2eval.data.presence import OFFICIAL
from emu2eval.engine.evaluation import evaluate
from emu2eval.engine.results import Result
from emu2eval.errors import StoreError
from emu2eval.runs.files import explained, sweep
from emu2eval.runs.record import LeftOut, Record, read_record, write_record
from emu2eval.runs.scored import Key
from emu2eval.runs.scores import (
    SampleScore,
    pack_scores,
    read_rows,
    read_scores,
    write_rows,
)
from emu2eval.spec.changes import Changes
from emu2eval.watch import Watcher

TOLERANCE = 0.002
"""Share of answers that may differ: another processor rounds differently, which decides near ties."""


@dataclass(frozen=True, slots=True)
class ChangedAnswer:
    """An answer that came out differently. before, now: as they were scored."""

    id: str
    trial: int
    take: int
    before: str | None
    now: str | None


@dataclass(frozen=True)
class Repeated:
    """A reference run made again. before, now: its headline, None for a part of the reference."""

    name: str
    before: float | None
    now: float | None
    compared: int
    differing: tuple[ChangedAnswer, ...]

    @property
    def agrees(self) -> bool:
        """No more answers differ than another processor explains (one always may)."""
        return len(self.differing) <= max(1, TOLERANCE * self.compared)


def keep(run: Path, into: Path) -> Path:
    """Copies what a reference needs of a finished run; returns its folder.

    Raises StoreError for a run that is not whole, or whose answers were given elsewhere.
    """
    record, rows = read_record(run), read_rows(run)
    if record.imported is not None:
        raise StoreError(
            "this run cannot be a reference, because it cannot be repeated: its answers were imported from "
            f"{record.imported.origin}, and its prompts are unknown",
            where=run,
        )
    if not rows or rows[0].unscored or rows[0].hidden:
        raise StoreError(
            "only a run without unscored answers can be a reference",
            where=run,
            hint="run its command again until no answers are unscored",
        )
    folder = into / run.name
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
    write_record(folder, record)
    # Seconds are not a fact about the model, and different each time.
    write_rows(folder, (msgspec.structs.replace(row, seconds=0.0) for row in rows))
    pack_scores(folder, read_scores(run))
    return folder


def repeat(
    folder: Path,
    out: Path,
    limit: int | None = None,
    watcher: Watcher | None = None,
    device: str | None = None,
) -> Repeated:
    """Runs again what a reference recorded, with today's code, files and weights, into the folder `out`.

    limit: only so many queries, a subset of the reference's own. device: on which the model runs.
    """
    record, before = read_record(folder), _scores(folder)
    made = _again(record, out, limit, watcher, device)
    now = _scores(made.folder)
    missing = [key for key in now if key not in before]
    if missing:
        raise StoreError(
            f"the reference has no answer to {missing[0][0]!r}; the data or its subset has changed",
            where=folder,
            hint="create the reference again: emu2eval run …, then emu2eval keep",
        )
    differing = tuple(
        ChangedAnswer(*key, before[key].prediction, score.prediction)
        for key, score in now.items()
        if (before[key].prediction, before[key].value) != (score.prediction, score.value)
    )
    whole = len(now) == len(before)
    return Repeated(
        folder.name,
        read_rows(folder)[0].value if whole else None,
        made.rows[0].value,
        len(now),
        differing,
    )


def _again(
    record: Record, out: Path, limit: int | None, watcher: Watcher | None, device: str | None
) -> Result:
    extent = record.extent
    if limit is None or (extent.limit is not None and extent.limit < limit):
        limit = extent.limit
    options: dict[str, Any] = {
        "shots": str(record.shots),
        "ablate": record.ablation,
        "seed": record.seed,
        "limit": limit,
        "trials": extent.trials,
        "split": record.task.split,
        "protocol": record.task.protocol,
        # What came from the official files is read from them again, and so for another source.
        "source": next(iter(record.task.sources.values()), OFFICIAL),
        "changes": _in_its_precision(record),
        "fit": record.fit,
        "skip_missing": record.left_out != LeftOut(),
        "device": device,
    }
    (result,) = evaluate(record.task.name, record.model.name, out=out, watcher=watcher, **options)
    return result


def _in_its_precision(record: Record) -> Changes:
    """Its changes, and the dtype that it had, which would be another's default on another device."""
    model = record.identity.model
    dtype = None if model is None else model.files.get("dtype")
    if dtype is None:
        return record.changes
    changed = {"settings.dtype": dtype, **record.changes.model}
    return msgspec.structs.replace(record.changes, model=changed)


def _scores(folder: Path) -> Mapping[Key, SampleScore]:
    return {score.key: score for score in read_scores(folder)}
