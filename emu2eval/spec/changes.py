"""What is set against the task's and the model's files, from --set or from a mapping."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from emu2eval.errors import ConfigError, UnknownName


class Changes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Dotted key -> value, for the task, the model and the judge."""

    task: dict[str, Any] = {}
    model: dict[str, Any] = {}
    judge: dict[str, Any] = {}

    @classmethod
    def of(cls, given: Any) -> Changes:
        """From a mapping, nested or with dotted keys, from assignments, or as it is."""
        if isinstance(given, Changes):
            return given
        from emu2eval.spec.config import parse_settings

        if isinstance(given, Mapping):
            parts: dict[str, dict[str, Any]] = {"task": {}, "model": {}, "judge": {}}
            for part, inner in given.items():
                if part not in parts or not isinstance(inner, Mapping):
                    raise UnknownName("part of changes", str(part), parts)
                parts[part].update(_flat(inner))
            return cls(**parts)
        if isinstance(given, str) or not isinstance(given, Iterable):
            raise ConfigError(f"changes are a mapping or a list of assignments, not {given!r}")
        return cls(**parse_settings(list(given)))

    def merged(self, later: Changes) -> Changes:
        return Changes(
            task={**self.task, **later.task},
            model={**self.model, **later.model},
            judge={**self.judge, **later.judge},
        )

    def assignments(self) -> list[str]:
        """As --set takes them."""
        return [
            f"{part}.{key}={value}"
            for part in ("task", "model", "judge")
            for key, value in getattr(self, part).items()
        ]


def _flat(given: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in given.items():
        if isinstance(value, Mapping) and value:
            found.update(_flat(value, f"{before}{key}."))
        else:
            found[f"{before}{key}"] = value
    return found
