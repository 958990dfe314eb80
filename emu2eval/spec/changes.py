"""Changes: what is set against the task's, the model's and the judge's files, as one value."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from typing import Any

import msgspec
import yaml

from emu2eval.errors import ConfigError, UnknownName
from emu2eval.spec.catalog import find_file
from emu2eval.spec.secrets import refuse
from emu2eval.spec.yamlfile import Document, parse_value, read_yaml

Assignments = Mapping[str, Any] | Sequence[str]
"""What people write: `{"task": {"output.beams": 3}}`, nested or with dots, or `["task.output.beams=3"]`."""

_HINT = "for example: --set task.output.max_new_tokens=20 --set model.settings.batch=4"


class Changes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Changes to the values in files. task, model, judge: dotted key -> value, for each of the three."""

    task: dict[str, Any] = msgspec.field(default_factory=dict)
    model: dict[str, Any] = msgspec.field(default_factory=dict)
    judge: dict[str, Any] = msgspec.field(default_factory=dict)

    @classmethod
    def of(cls, given: Changes | Assignments | None) -> Changes:
        """From a mapping, from a list of assignments, or as it is. Raises ConfigError or UnknownName.

        A mapping inside changes the keys that it names and leaves the others.

        >>> Changes.of({"task": {"output": {"beams": 3}}}) == Changes.parse(["task.output.beams=3"])
        True
        """
        if given is None:
            return cls()
        if isinstance(given, Changes):
            return given
        if isinstance(given, Mapping):
            refuse(given)
            for key in given:
                _part(str(key))
            return cls(**_sorted_out(_flat(given)))
        if isinstance(given, str) or not isinstance(given, Iterable):
            raise ConfigError(
                f"changes must be a mapping or a list of assignments, not {type(given).__name__}",
                hint='for example: {"task": {"output.max_new_tokens": 20}}',
            )
        return cls.parse(given)

    @classmethod
    def parse(cls, assignments: Iterable[str]) -> Changes:
        """From `task.a.b=c`, as --set takes it. Raises ConfigError.

        Values are YAML: numbers, true, false, null, [lists], {mappings: of keys}; anything else, such as a
        template with {image}, is a text.

        >>> Changes.parse(["task.output.beams=3", "model.settings.layout=single"]).task
        {'output.beams': 3}
        """
        listed = list(assignments)
        refuse(listed)  # before anything is said about one
        parsed = {}
        for assignment in listed:
            key, equals, text = assignment.partition("=")
            part, _, rest = key.strip().partition(".")
            if not equals or part not in cls.__struct_fields__ or not rest:
                raise ConfigError(
                    "--set takes task.KEY=VALUE, model.KEY=VALUE or judge.KEY=VALUE, "
                    f"not {assignment!r}",
                    hint=_HINT,
                )
            value = _value(text)
            if isinstance(value, dict) and value:
                _refuse_dots(key.strip(), value)
                parsed.update(_flat(value, f"{key.strip()}."))
            else:
                parsed[key.strip()] = value
        refuse(parsed)
        return cls(**_sorted_out(parsed))

    def merged(self, later: Changes) -> Changes:
        """Both; where they set the same key, the later one."""
        return Changes(
            task={**self.task, **later.task},
            model={**self.model, **later.model},
            judge={**self.judge, **later.judge},
        )

    def assignments(self) -> tuple[str, ...]:
        """As --set takes them; `parse` makes the same changes of them."""
        return tuple(
            f"{key}={_text(value)}" for key, value in _flat(msgspec.structs.asdict(self)).items()
        )

    def __bool__(self) -> bool:
        return bool(self.task or self.model or self.judge)


def read_file(kind: str, name: str) -> Document:
    """The file of a task or model. Raises UnknownName or ConfigError."""
    return read_yaml(find_file(kind, name))


def with_changes(document: Document, changes: Mapping[str, Any], kind: str) -> Document:
    """The file, which then knows what the changes set; kind: "task" or "model"."""
    set_by = frozenset(tuple(key.split(".")) for key in changes)
    return replace(document, set_by=set_by, part=kind)


def override(data: Mapping[str, Any], changes: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """A copy of `data` with the values of dotted keys replaced; kind: "task" or "model".

    Raises ConfigError for a key below a value that has none.
    """
    merged = deepcopy(dict(data))
    for dotted, value in changes.items():
        *path, last = dotted.split(".")
        inner = merged
        for step in path:
            inner = inner.setdefault(step, {})
            if not isinstance(inner, dict):
                raise ConfigError(
                    f"--set {kind}.{dotted}: {step!r} is a value and has no keys",
                    hint=f"to see a file's keys: emu2eval ls {kind}s NAME",
                )
        inner[last] = deepcopy(value)
    return merged


def _flat(given: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys; a value is as YAML could hold it."""
    found: dict[str, Any] = {}
    for key, value in given.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping) and (value or not before):
            found.update(_flat(value, f"{name}."))
        else:
            found[name] = _plain(name, value)
    return found


def _refuse_dots(name: str, value: Mapping[str, Any]) -> None:
    for key, inner in value.items():
        if "." in str(key):
            raise ConfigError(
                f"{name}: the key {key} contains a dot, which --set would read as a nested key",
                hint="set it in the task's or model's .yaml file",
            )
        if isinstance(inner, Mapping):
            _refuse_dots(name, inner)


def _plain(name: str, value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, list | tuple):
        return [_plain(name, item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(name, item) for key, item in value.items()}
    raise ConfigError(
        f"the change {name} has the type {type(value).__name__}, which YAML cannot represent",
        hint="use a number, a string, true or false, None, a list or a mapping",
    )


def _sorted_out(dotted: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    parts: dict[str, dict[str, Any]] = {part: {} for part in Changes.__struct_fields__}
    for key, value in dotted.items():
        part, rest = _part(key)
        if not rest:
            raise ConfigError(f"changes to the {part} must be a mapping", hint=_HINT)
        parts[part][rest] = value
    return parts


def _part(key: str) -> tuple[str, str]:
    """(task, model or judge; the key in its file)."""
    part, _, rest = key.partition(".")
    if part not in Changes.__struct_fields__:
        raise UnknownName("part of changes", part, Changes.__struct_fields__, hint=_HINT)
    return part, rest


def _value(text: str) -> Any:
    if not text.strip():
        return text
    try:
        value = parse_value(text)
    except yaml.YAMLError:
        return text
    if not isinstance(value, dict):
        return value
    # To YAML "Question: {question}" is a mapping, and "{image}" is one whose key has no value.
    template = not text.lstrip().startswith("{") or None in value.values()
    return text if template else value


def _text(value: Any) -> str:
    """The shortest text that `_value` makes the same value of."""
    if isinstance(value, str):
        with suppress(ConfigError):
            if _value(value) == value:
                return value
    dumped = yaml.safe_dump(
        value,
        default_style='"' if isinstance(value, str) else None,
        default_flow_style=True,
        width=float("inf"),
        allow_unicode=True,
        sort_keys=False,
    )
    return dumped.removesuffix("\n").removesuffix("\n...")
