"""Stored runs -> all that a page holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emu2eval.compare.comparable import Measure
from emu2eval.engine.splits import Splits
from emu2eval.errors import StoreError
from emu2eval.identity import value_key
from emu2eval.report.curves import is_on_curve
from emu2eval.report.notes import notes
from emu2eval.report.page.about import about
from emu2eval.report.page.conclusions import conclusions
from emu2eval.report.page.differences import differences, shown
from emu2eval.report.page.gather import Gathered, gather
from emu2eval.report.page.html import Content
from emu2eval.report.page.reading import Reading, ReadRun
from emu2eval.report.page.tables import Thumbnails
from emu2eval.runs.apart import labels
from emu2eval.runs.record import versions
from emu2eval.runs.several import read_each
from emu2eval.types import Row


@dataclass(frozen=True)
class Built:
    """lost: what is wrong with runs that cannot be read."""

    content: Content
    lost: tuple[StoreError, ...]


Told = Callable[[str, int, int], None]
"""What is done, how much of it, of how much."""


def build(
    folders: Sequence[Path],
    thumbnails: Thumbnails,
    *,
    samples: int | None = None,
    baseline: str | None = None,
    told: Told = lambda what, done, total: None,
    live: bool = False,
    splits: Splits | None = None,
) -> Built:
    """samples: of each run; None for as many as fit. splits: data that was read before, and is kept.

    Raises StoreError where no run can be read, ConfigError for an unknown baseline.
    """
    reading = Reading(folders, samples)

    def read_one(folder: Path) -> ReadRun:
        told("reading runs", done[0], len(folders))
        done[0] += 1
        return reading(folder)

    done = [0]
    found = read_each(folders, read_one)
    runs = found.read
    total, done[0] = len(runs), 0
    names = labels([read.run.record for read in runs], seeds=True)
    heads = [read.head for read in runs]
    told("comparing runs", 0, total)
    compared = differences(heads, [read.laid for read in runs], names, baseline)

    def tick(count: int) -> None:
        done[0] += 1
        told("reading samples", done[0], total)

    gathered = gather(runs, thumbnails, tick, bounded=samples is None, kept=splits)
    told_of = [about(read.run) for read in runs]
    head = {
        "version": versions().get("emu2eval"),
        "runs": [
            {**_run(number, read, names[number], gathered), "when": told_of[number]["when"]}
            for number, read in enumerate(runs)
        ],
        "conclusions": [asdict(each) for each in conclusions(heads, names, compared)],
        "differences": [shown(each) for each in compared],
    }
    chunks: dict[str, Any] = {
        "about": told_of,
        "groups": [[_row(row) for row in read.run.rows if row.group is not None] for read in runs],
        "confusions": gathered.confusions,
    }
    chunks |= {f"set-{number}": found for number, found in enumerate(gathered.sets)}
    return Built(Content(head, chunks, thumbnails.entries(), live), found.lost)


def _run(number: int, read: ReadRun, name: str, gathered: Gathered) -> dict[str, Any]:
    run, head = read.run, read.head
    return {
        "name": run.name,
        "task": run.task,
        "model": name,
        "shots": head.setting,
        "count": head.shots.count if is_on_curve(head) else None,
        "seed": head.seed,
        "protocol": head.protocol_label,
        "split": head.split,
        "version": head.version,
        "measure": value_key(Measure.of(head)),
        "percent": _percent(read),
        "bounded": read.bounded,
        "better": head.higher_is_better,
        "rows": [_row(row) for row in run.rows if row.group is None],
        "groups": len({row.group for row in run.rows if row.group is not None}),
        "confusion": gathered.confusions[number] is not None,
        "set": gathered.set_of[number],
        "answers": read.answers,
        "shown": gathered.shown[number],
        "counts": read.counts,
        "promptless": gathered.promptless[number],
    }


def _row(row: Row) -> dict[str, Any]:
    kept = ("value", "low", "high", "n", "unscored", "chance", "ceiling", "digits")
    found: dict[str, Any] = {name: getattr(row, name) for name in kept}
    if row.group is not None:
        found["group"] = row.group
    return found | {"metric": row.label, "notes": notes(row)}


def _percent(read: ReadRun) -> bool:
    """Whether the headline is a share of the samples in percent."""
    if read.laid is None or read.head.value is None or read.head.set_scaled:
        return False
    values = read.laid.values
    known = values[~np.isnan(values)]
    scale = read.laid.scorer.scale
    return scale == 100 and read.head.higher_is_better and bool(((known >= 0) & (known <= 1)).all())
