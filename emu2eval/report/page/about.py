"""What a run was, for whoever opens its page years later: when, by what, with which settings and words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from emu2eval.runs.scored import ScoredRun
from emu2eval.runs.store import ANSWERS

_DIGEST = re.compile("[0-9a-f]{64}")


def about(run: ScoredRun) -> dict[str, Any]:
    """when: the last answer, None where the answers are not kept here; settings: names and values, as tables
    of a few words; template: how the task is asked."""
    record = run.record
    identity = record.identity
    model = dict(record.model.settings)
    if identity.model is not None:
        model |= {f"files.{name}": value for name, value in flat(identity.model.files)}
    asked = {
        "shots": record.setting,
        "seed": record.seed,
        "trials": record.extent.trials,
        "limit": record.extent.limit,
        "fit": identity.fit,
    }
    data = msgspec.to_builtins(identity.data)
    return {
        "when": _when(run.folder),
        "fingerprint": record.fingerprint,
        "adapter": record.model.adapter,
        "versions": dict(record.versions),
        "settings": {
            "model": _lines(model),
            "run": _lines(asked),
            "changes": list(record.changes.assignments()),
            "demonstrations": _lines(identity.task.demonstrations),
            "output": _lines(identity.task.output),
            "scoring": _lines(record.task.spec.get("score", {})),
            "data": _lines(data),
        },
        "template": {
            name: value for name, value in flat(identity.task.template) if isinstance(value, str)
        },
    }


def _when(folder: Path) -> str | None:
    """The time of the last answer (UTC, ISO), by the file that keeps answers in the order of arrival."""
    try:
        last = (folder / ANSWERS).stat().st_mtime
    except OSError:
        return None  # of a reference, whose files are as old as the copy
    return datetime.fromtimestamp(last, UTC).isoformat(timespec="minutes")


def flat(given: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    """Nested mappings as one list of dotted names.

    >>> flat({"a": {"b": 1}, "c": None})
    [('a.b', 1), ('c', None)]
    """
    found: list[tuple[str, Any]] = []
    for key, value in given.items():
        if isinstance(value, Mapping) and value:
            found += flat(value, f"{before}{key}.")
        else:
            found.append((f"{before}{key}", value))
    return found


def _lines(given: Mapping[str, Any]) -> list[str]:
    """`name = value`, as YAML writes it, without what was not set."""
    return [
        f"{name} = {_short(value)}"
        for name, value in flat(given)
        if value is not None and value != {} and value != []
    ]


def _short(value: Any) -> str:
    """A value as YAML would have it; of a digest its beginning, which is enough to tell two apart."""
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return f"{text[:16]}…" if _DIGEST.fullmatch(text) else text
