"""Whether a replica would answer as the others do: compared by what decides answers, and told by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from emu2eval.engine.backends.replica import ReplicaReport
from emu2eval.runs.record import ModelIdentity, versions


def unlike(
    report: ReplicaReport, expected: ModelIdentity, others: Mapping[str, str] | None
) -> str | None:
    """What differs, in a phrase; None = nothing. others: versions of the replicas that are at work.

    The driver's own packages only count where they decide a prompt: it may have no GPU, and another torch.
    """
    ours = msgspec.to_builtins(expected)
    theirs = msgspec.to_builtins(report.identity)
    found = list(differences(ours, theirs))
    known = dict(others) if others is not None else {"emu2eval": versions()["emu2eval"]}
    found += list(differences(known, {k: report.versions.get(k) for k in known}))
    return "; ".join(found[:3]) if found else None


def differences(ours: Any, theirs: Any, name: str = "") -> list[str]:
    """What differs between two structs as JSON has them, each in a phrase."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return [
            line
            for key in sorted({*ours, *theirs})
            for line in differences(
                ours.get(key), theirs.get(key), f"{name}.{key}" if name else key
            )
        ]
    return [] if ours == theirs else [f"{name} is {_short(theirs)}, not {_short(ours)}"]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:12]}…"
