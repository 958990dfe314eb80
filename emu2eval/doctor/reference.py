"""Reference runs: small records of runs that travel with a repository, and what differs when one is repeated.

run.json, report.json    as in a run's folder
scores.jsonl.gz          id, trial, prediction, value, cluster and groups of each answer
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from emu2eval.data.presence import OFFICIAL
from emu2eval.engine.evaluation import Settings, evaluate
from emu2eval.engine.record import read_record
from emu2eval.errors import StoreError
from emu2eval.runs.store import RunStore
from emu2eval.watch import Watcher

TOLERANCE = 0.002
"""Share of answers that may differ: another processor rounds otherwise, and near ties fall the other way."""

_KEPT = ("id", "trial", "prediction", "value", "cluster", "groups")

_Answers = dict[tuple[str, int], tuple[str | None, float | None]]


@dataclass(frozen=True)
class Repeated:
    """A reference run made again. before, now: its headline; differing: (id, trial) with both predictions."""

    name: str
    before: float | None
    now: float | None
    compared: int
    differing: tuple[tuple[str, int, str | None, str | None], ...]

    @property
    def agrees(self) -> bool:
        """No more answers differ than another processor explains (one always may)."""
        return len(self.differing) <= max(1, TOLERANCE * self.compared)


def keep(run: Path, into: Path) -> Path:
    """Copies what a reference needs of a finished run; returns its folder.

    Raises StoreError for a run that is not whole, or whose answers were given elsewhere.
    """
    record, report = read_record(run), RunStore(run).read_json("report.json")
    if "imported" in record:
        raise StoreError(
            f"this run cannot be repeated, so it is no reference: it was {record['imported']['note']}, and "
            "its prompts are unknown",
            where=run,
        )
    if report is None or not report["rows"] or report["rows"][0]["unscored"]:
        raise StoreError(
            "only a run whose answers are all scored can be a reference",
            where=run,
            hint="run its command again until nothing is unscored",
        )
    folder = into / run.name
    folder.mkdir(parents=True, exist_ok=True)
    store = RunStore(folder)
    for row in report["rows"]:
        row["seconds"] = 0.0  # not a fact about the model, and different each time
    store.write_json("run.json", record)
    store.write_json("report.json", report)
    # The cluster and the groups are for comparisons, which then need no data.
    lines = [msgspec.json.encode([row[name] for name in _KEPT]) + b"\n" for row in _rows(run)]
    # Without a time stamp the same answers are the same file.
    packed = gzip.compress(b"".join(lines), mtime=0)
    (folder / "scores.jsonl.gz").write_bytes(packed)
    return folder


def repeat(
    folder: Path, out: Path, limit: int | None = None, watcher: Watcher | None = None
) -> Repeated:
    """Runs again what a reference recorded, with today's code, files and weights, into the folder `out`.

    limit: only so many queries, a subset of the reference's own.
    """
    record = read_record(folder)
    extent = record["extent"]
    if limit is None or (extent["limit"] is not None and extent["limit"] < limit):
        limit = extent["limit"]
    settings = Settings(
        shots=[record["shots"]],
        ablate=[record.get("ablation", "none")],
        seed=record["seed"],
        limit=limit,
        trials=extent["trials"],
        split=record["split"],
        protocol=record["protocol"],
        # What came from the official files is asked of them again, and so for another source.
        source=next(iter(record.get("sources", {}).values()), OFFICIAL),
        changes=record["changes"],
        out=out,
    )
    (result,) = evaluate(
        record["task"]["name"], record["model"]["name"], settings=settings, watcher=watcher
    )
    before, now = _kept(folder), _answers(result.folder)
    missing = [key for key in now if key not in before]
    if missing:
        raise StoreError(
            f"the reference holds no answer to {missing[0][0]!r}; the data or its subset has changed",
            where=folder,
            hint="make the reference anew: emu2eval run …, then emu2eval keep",
        )
    differing = tuple(
        (*key, before[key][0], answer[0]) for key, answer in now.items() if before[key] != answer
    )
    report: Any = RunStore(folder).read_json("report.json")
    whole = len(now) == len(before)
    return Repeated(
        folder.name,
        report["rows"][0]["value"] if whole else None,
        result.rows[0].value,
        len(now),
        differing,
    )


def _answers(run: Path) -> _Answers:
    return {(row["id"], row["trial"]): (row["prediction"], row["value"]) for row in _rows(run)}


def _rows(run: Path) -> list[dict[str, Any]]:
    path = run / "scores.jsonl"
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise StoreError(f"the scores cannot be read ({error.strerror})", where=path) from None
    return [msgspec.json.decode(line) for line in lines]


def _kept(folder: Path) -> _Answers:
    path = folder / "scores.jsonl.gz"
    try:
        rows: Sequence[Any] = [
            msgspec.json.decode(line) for line in gzip.decompress(path.read_bytes()).splitlines()
        ]
    except (OSError, EOFError, msgspec.DecodeError) as error:
        raise StoreError(f"the reference cannot be read: {error}", where=path) from None
    return {(sample, trial): (said, value) for sample, trial, said, value, *_ in rows}
