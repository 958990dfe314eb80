"""Whether the difference of two runs would be one of what is compared, and what else differs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from emu2eval.engine.stored import StoredRun


def incomparable(first: StoredRun, second: StoredRun) -> list[str]:
    """Why a difference of the two would not be one of the models; empty where they can be compared."""
    one, other = first.record, second.record
    asked, also = (r["identity"]["task"] for r in (one, other))
    places: list[tuple[str, Any, Any]] = [
        ("tasks", first.task, second.task),
        ("versions of the task", asked["version"], also["version"]),
        ("protocols", one["protocol"], other["protocol"]),
        ("splits", one["split"], other["split"]),
        ("metrics", first.rows[0].metric, second.rows[0].metric),
    ]
    whole = [{r.metric: r.encoder for r in run.rows if r.group is None} for run in (first, second)]
    places += [
        (f"encoders of {metric}", encoder, whole[1][metric])
        for metric, encoder in whole[0].items()
        # Runs that were scored by an older version do not say.
        if encoder is not None and whole[1].get(metric) is not None
    ]
    reasons = [f"their {what} differ ({a}, {b})" for what, a, b in places if a != b]
    if not reasons:
        for what, a, b in (
            ("prompt templates", asked["template"], also["template"]),
            ("settings of the output", asked["output"], also["output"]),
            ("ways to score", one["task"]["score"], other["task"]["score"]),
        ):
            if a != b:
                reasons.append(f"their {what} differ ({_apart(a, b)})")
    for role, a, b in (
        (role, one["identity"]["data"][role], other["identity"]["data"][role])
        for role in ("queries", "demonstrations")
    ):
        if a is not None and b is not None and a != b and first.task == second.task:
            reasons.append(f"the data of their {role} differs ({a[:8]}…, {b[:8]}…)")
    return reasons


def _apart(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    keys = [key for key in {**one, **other} if one.get(key) != other.get(key)]
    return ", ".join(f"{key} {one.get(key)!r} and {other.get(key)!r}" for key in keys)


def settings_apart(first: StoredRun, second: StoredRun) -> list[str]:
    """What differs beside the model and may well be what is compared."""
    notes = []
    one, other = (run.record["identity"]["task"]["demonstrations"] for run in (first, second))
    shown = all(run.record["identity"]["data"]["demonstrations"] for run in (first, second))
    if shown and one != other:
        notes.append(f"demonstrations differ: {_apart(one, other)}")
    if shown and first.record["seed"] != second.record["seed"]:
        seeds = f"{first.record['seed']} and {second.record['seed']}"
        notes.append(f"demonstrations are drawn by seeds {seeds}")
    return notes
