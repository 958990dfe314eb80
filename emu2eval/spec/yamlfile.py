"""YAML files read with the line of every value, so that an error can point at it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import ContextVar
from copy import deepcopy
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from emu2eval.errors import ConfigError
from emu2eval.spec import yamlbounds as bounded
from emu2eval.spec.settings import Keys, Settings, Source, Struct, read
from emu2eval.trust import named_by

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):  # type: ignore[misc]
    """YAML 1.2's booleans, only true and false, and no dates. In YAML 1.1 the answer `no` would be False."""


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, rule) for tag, rule in rules if not tag.endswith((":bool", ":timestamp", ":value"))
    ]
    for first, rules in _Base.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


class Spec(Settings):
    """Subclass for a part of a YAML file: its keys, their types and their defaults."""


_set_at: ContextVar[Callable[[str], str | None]] = ContextVar("set_at", default=lambda dotted: None)


@contextmanager
def set_at(where: Callable[[str], str | None]) -> Iterator[None]:
    """Within, what is set against files was not set by --set. where: the place of a key, such as that of
    `task.output.beams`."""
    token = _set_at.set(where)
    try:
        yield
    finally:
        _set_at.reset(token)


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
        return named_by(self.path.parent, self.stored and not own, said=own)

    def where(self, keys: Keys) -> str:
        """`file:line` of the value, or of the nearest one around it; or `--set`."""
        inside = any(keys[: len(path)] == path for path in self.set_by)
        # A key that only --set makes, around what it sets.
        around = keys not in self.lines and any(path[: len(keys)] == keys for path in self.set_by)
        if inside or around:
            dotted = ".".join(map(str, (self.part, *keys)))
            return _set_at.get()(dotted) or f"--set {dotted}"
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
        with path.open("rb") as file:
            text = file.read(bounded.LARGEST + 1).decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"the file cannot be read ({error.strerror})", where=path) from None
    except UnicodeDecodeError:
        raise ConfigError("the file is not UTF-8 text", where=path) from None
    data, lines = _read_text(text, path)
    return Document(path, deepcopy(data), lines)


@lru_cache(maxsize=256)
def _read_text(text: str, path: Path) -> tuple[dict[str, Any], Mapping[Keys, int]]:
    """The values and their lines. A file is parsed once for as long as it stays the same; it takes 2 ms."""
    lines: dict[Keys, int] = {}
    try:
        data = _parsed(text, lambda node: _look(node, lines, path))
    except bounded.TooMuch as error:
        raise ConfigError(
            f"the file was rejected: {error.problem}",
            where=f"{path}:{_line(error)}",
            hint="task and model files are a page or two of plain keys and values",
        ) from None
    except yaml.MarkedYAMLError as error:
        raise ConfigError(
            f"malformed YAML: {error.problem or error.context}",
            where=f"{path}:{_line(error)}",
            hint="check indentation, colons and quotes at and just above that line",
        ) from None
    except yaml.YAMLError as error:
        raise ConfigError(f"malformed YAML: {' '.join(str(error).split())}", where=path) from None
    return data, lines


def parse_value(text: str) -> Any:
    """One YAML value, as in a file. Raises yaml.YAMLError; ConfigError where it is beyond all bounds."""
    try:
        return _parsed(text)
    except bounded.TooMuch as error:
        raise ConfigError(f"the value was rejected: {error.problem}", where="--set") from None


def _parsed(text: str, look: Callable[[Any], None] = lambda node: None) -> Any:
    """The one document of a text: only here is YAML built. Raises yaml.YAMLError.

    look: is given the document's node before that.
    """
    bounded.check(text, _Loader)
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        look(node)
        if node is None:
            return None
        _check_keys(node)
        return loader.construct_document(node)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # What PyYAML's constructors stumble over in a value whose tag says another kind: !!bool word.
        raise yaml.YAMLError(f"a value does not match its declared type ({error})") from None
    finally:
        loader.dispose()


def _look(node: Any, lines: dict[Keys, int], path: Path) -> None:
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError("the file is not a YAML mapping (`key: value` lines)", where=f"{path}:1")
    _check_keys(node)
    _collect(node, (), lines, path)


def _check_keys(node: Any) -> None:
    """Raises ConstructorError for a key that JSON has nothing for."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.tag not in _KEYS:
                raise _wrong("a key must be a string or an integer", key)
            _check_keys(value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _check_keys(item)


_KEYS = frozenset(f"tag:yaml.org,2002:{name}" for name in ("str", "int", "merge", "bool"))


def _wrong(says: str, node: Any) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, says, node.start_mark)


def _line(error: yaml.MarkedYAMLError) -> int:
    mark = error.problem_mark or error.context_mark
    return mark.line + 1 if mark else 1


def _number(build: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """A constructor of numbers, without what Python refuses or takes long over: thousands of digits."""

    def built(loader: Any, node: Any) -> Any:
        if len(node.value) <= _LONGEST_NUMBER:
            with suppress(ValueError, OverflowError):  # such as !!int word
                return build(loader, node)
        raise _wrong("not a number of a usable length", node)

    return built


_LONGEST_NUMBER = 100
for _kind in ("int", "float"):
    _build = getattr(_Base, f"construct_yaml_{_kind}")
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _number(_build))


def _collect(node: Any, keys: Keys, lines: dict[Keys, int], path: Path) -> None:
    lines[keys] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = key_node.value
            if key in seen and key != "<<":
                raise ConfigError(f"the key {key!r} appears twice", where=f"{path}:{line}")
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
