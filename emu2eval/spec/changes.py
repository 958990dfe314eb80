"""What is set against the task's and the model's files, from --set or from a mapping."""

from __future__ import annotations

from typing import Any

import msgspec


class Changes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Dotted key -> value, for the task, the model and the judge."""

    task: dict[str, Any] = {}
    model: dict[str, Any] = {}
    judge: dict[str, Any] = {}
