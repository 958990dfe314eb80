"""YAML files read with the line of every value, so that an error can point at it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from emu2eval.errors import ConfigError
from emu2eval.spec.settings import Keys, Settings, Source, Struct, read
from emu2eval.trust import named_by

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):  # type: ignore[misc]
    """YAML 1.2's booleans: only true and false. In YAML 1.1 the answer `no` would be False."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, rule) for tag, rule in rules if tag != "tag:yaml.org,2002:bool"]
    for first, rules in _Base.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


class Spec(Settings):
    """Subclass for a part of a YAML file: its keys, their types and their defaults."""


@dataclass(frozen=True)
class Document:
    """A parsed YAML mapping; lines: where each value stands, by its keys from the top."""

    path: Path
    data: dict[str, Any]
    lines: Mapping[Keys, int] = field(default_factory=dict)
    set_by: frozenset[Keys] = frozenset()
    """Values that the command line put there with --set."""
    part: str = ""
    """What --set calls the file: "task" or "model"."""
    stored: bool = False
    """It was kept in the record of a run."""

    def naming(self, keys: Keys = ()) -> AbstractContextManager[None]:
        """Within, parts are named by this document, at these keys; see `trust`. What --set puts into a
        record is the user's own word."""
        own = any(keys[: len(path)] == path for path in self.set_by)
        return named_by(self.path.parent, self.stored and not own)

    def where(self, keys: Keys) -> str:
        """`file:line` of the value, or of the nearest one around it; or `--set`."""
        if any(keys[: len(path)] == path for path in self.set_by):
            return f"--set {'.'.join(map(str, (self.part, *keys)))}"
        while keys and keys not in self.lines:
            keys = keys[:-1]
        line = self.lines.get(keys)
        return f"{self.path}:{line}" if line else str(self.path)

    def below(self, keys: Keys) -> Callable[[Keys], str]:
        """`where` for the keys below some keys."""
        return lambda inner: self.where((*keys, *inner))


def read_yaml(path: Path) -> Document:
    """Raises ConfigError with file and line where the file is not a YAML mapping."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"the file cannot be read ({error.strerror})", where=path) from None
    except UnicodeDecodeError:
        raise ConfigError("the file is not UTF-8 text", where=path) from None
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(
                "the file holds no YAML mapping (`key: value` lines)", where=f"{path}:1"
            )
        lines: dict[Keys, int] = {}
        _collect(node, (), lines, path)
        data = loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise ConfigError(
            f"malformed YAML: {error.problem or error.context}",
            where=f"{path}:{line}",
            hint="check indentation, colons and quotes at and just above that line",
        ) from None
    except yaml.YAMLError as error:
        raise ConfigError(f"malformed YAML: {error}", where=path) from None
    finally:
        loader.dispose()
    return Document(path, data, lines)


def parse_value(text: str) -> Any:
    """One YAML value, as in a file. Raises yaml.YAMLError."""
    return yaml.load(text, Loader=_Loader)  # a safe loader by descent


def _collect(node: Any, keys: Keys, lines: dict[Keys, int], path: Path) -> None:
    lines[keys] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key_node, value_node in node.value:
            key = key_node.value
            line = key_node.start_mark.line + 1
            if key in seen and key != "<<":
                raise ConfigError(f"the key {key!r} stands twice", where=f"{path}:{line}")
            seen.add(key)
            _collect(value_node, (*keys, key), lines, path)
            lines[(*keys, key)] = line
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _collect(item, (*keys, index), lines, path)


def validate(kind: type[Struct], data: Any, document: Document, at: Keys = ()) -> Struct:
    """`data`, found at the keys `at` of the document, as a struct.

    Raises UnknownName for a key that does not exist, with the nearest ones; else ConfigError; Several where
    there is more than one fault.
    """
    with document.naming():  # a kind of output may be named by `module:attr`
        return read(kind, data, Source(where=document.below(at), top=at))
