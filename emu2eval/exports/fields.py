"""Values with named fields, such as a table's rows, as CSV, JSON and data frames hold them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import msgspec

from emu2eval.types import Mark, Shots


def names(kind: type[Any]) -> list[str]:
    """The fields of a dataclass or a struct, in order."""
    if issubclass(kind, msgspec.Struct):
        return list(kind.__struct_fields__)
    return [field.name for field in dataclasses.fields(kind)]


def plain(item: Any) -> dict[str, Any]:
    """Every field of a dataclass or a struct as a JSON value; numbers unrounded, shots and marks as texts."""
    return {name: _plain(getattr(item, name)) for name in names(type(item))}


def _plain(value: Any) -> Any:
    if isinstance(value, Shots):
        return str(value)
    if isinstance(value, Mark):
        return value.kind if value.value is None else f"{value.kind} {value.value}"
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        if len(value) == 2 and isinstance(value[0], Mark):
            return f"{_plain(value[0])}: {value[1]}"
        return [_plain(inner) for inner in value]
    if isinstance(value, msgspec.Struct) or dataclasses.is_dataclass(value):
        return plain(value)
    return value


def text(value: Any) -> Any:
    """A plain value as one cell of a table: a list or an object as text, anything else as it is.

    >>> text(["a", "b"]), text({"queries": "hub"}), text(1.5)
    ('a; b', 'queries: hub', 1.5)
    """
    if isinstance(value, list):
        return "; ".join(str(text(inner)) for inner in value)
    if isinstance(value, dict):
        return "; ".join(f"{name}: {text(inner)}" for name, inner in value.items())
    return value
