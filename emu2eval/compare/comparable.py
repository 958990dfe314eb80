"""What a number is of, and whether the difference of two runs would be one of what is compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from emu2eval.errors import shown
from emu2eval.runs.record import Record
from emu2eval.runs.scored import ScoredRun
from emu2eval.types import Row


class Measure(NamedTuple):
    """What a row's number is of, whatever the model and the shots: numbers of two measures are never set
    side by side unmarked. imported: who asked, for answers that were given elsewhere.
    """

    task: str
    version: int
    split: str
    protocol: str
    imported: str | None
    metric: str
    variant: str | None
    judge: str | None
    encoder: str | None

    @classmethod
    def of(cls, row: Row) -> Measure:
        return cls(*(getattr(row, name) for name in cls._fields))


def incomparable(first: ScoredRun, second: ScoredRun) -> list[str]:
    """Why a difference of the two would not be one of the models; empty where they can be compared."""
    one, other = first.record, second.record
    reasons = [
        f"their {what} differ ({a} and {b})" for what, a, b in _places(first, second) if a != b
    ]
    if not reasons:
        asked, also = one.identity.task, other.identity.task
        for what, before, after in (
            ("prompt templates", asked.template, also.template),
            ("output settings", asked.output, also.output),
            ("scoring settings", one.task.spec.get("score", {}), other.task.spec.get("score", {})),
        ):
            if before != after:
                reasons.append(f"their {what} differ ({_apart(before, after)})")
    if first.task == second.task:
        reasons += _data(one, other)
    return reasons


def _places(first: ScoredRun, second: ScoredRun) -> Iterator[tuple[str, object, object]]:
    one, other = first.record, second.record
    yield "tasks", first.task, second.task
    yield "task versions", one.identity.task.version, other.identity.task.version
    yield "protocols", one.protocol_label, other.protocol_label
    yield "splits", one.task.split, other.task.split
    yield "metrics", first.rows[0].label, second.rows[0].label
    encoders = {row.label: row.encoder for row in second.rows if row.group is None}
    for row in first.rows:
        if row.group is None and row.label in encoders:
            yield f"encoders of {row.label}", row.encoder, encoders[row.label]


def _data(one: Record, other: Record) -> Iterator[str]:
    known, also = one.identity.data, other.identity.data
    for role, a, b in (
        ("queries", known.queries, also.queries),
        ("demonstrations", known.demonstrations, also.demonstrations),
    ):
        if a is not None and b is not None and a != b:
            yield f"the data of their {role} differs ({a[:8]}…, {b[:8]}…)"


def _apart(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    keys = [key for key in {**one, **other} if one.get(key) != other.get(key)]
    return ", ".join(f"{key} {shown(one.get(key))} and {shown(other.get(key))}" for key in keys)


def settings_apart(first: ScoredRun, second: ScoredRun) -> list[str]:
    """What differs besides the model and may well be what is compared."""
    notes = []
    one, other = first.record, second.record
    if one.identity.data.demonstrations and other.identity.data.demonstrations:
        shown, also = one.identity.task.demonstrations, other.identity.task.demonstrations
        if shown != also:
            notes.append(f"demonstrations differ: {_apart(shown, also)}")
        if one.seed != other.seed:
            notes.append(f"demonstrations drawn with seeds {one.seed} and {other.seed}")
    for run in (first, second):
        if run.rows[0].shortened:
            notes.append(f"{run.rows[0].shortened:,} prompts of {run.label} shortened to fit")
    return notes
