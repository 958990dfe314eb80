"""Settings: the declared options of a part, and the one check of what a file, --set or a call gives for them.

The check walks the declaration itself, so that every fault is known by its path, and all faults of a mapping
are told together. Messages name the kind of a value that does not fit, and the value itself only where both
are numbers: anything else may be a secret in the wrong place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, TypeVar, dataclass_transform

import msgspec
from msgspec import inspect

from emu2eval.errors import ConfigError, UnknownName, UserError, raise_together
from emu2eval.spec.kinds import declared, expected, fits, is_list, matches, name_of, sort, sort_of

Keys = tuple[str | int, ...]
"""The way to a value, from the top of the mapping that holds it."""

Count = Annotated[int, msgspec.Meta(ge=1)]
"""An integer of at least 1."""

Limit = Annotated[int, msgspec.Meta(ge=1)] | Annotated[float, msgspec.Meta(gt=0, lt=1)]
"""So many queries, or that part of a split."""

Struct = TypeVar("Struct", bound=msgspec.Struct)


class _Keywords(msgspec.StructMeta):
    """Fields are given by name in every subclass: one without a default may follow one that has it."""

    def __new__(
        mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **config: Any
    ) -> Any:
        return super().__new__(mcls, name, bases, namespace, **{"kw_only": True, **config})


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, metaclass=_Keywords):
    """Subclass to declare options: types, defaults, bounds (`Annotated[int, msgspec.Meta(ge=1)]`), choices
    (`Literal`). Checks that types cannot express go into `__post_init__`, which raises ConfigError or
    ValueError."""


class Variants(Settings):
    """Settings of several kinds: the key `kind` selects the class. Subclass it for the family."""

    @classmethod
    def variant(cls, named: str | None) -> type[Settings]:
        """The class of a kind; None = the file names none. Raises UnknownName."""
        raise NotImplementedError


@dataclass(frozen=True)
class Source:
    """What settings belong to and where they stand, for messages about them.

    owner: such as "scorer images", whose keys are options; empty for a file, whose keys are keys.
    where: the place of the value at some keys, such as `file:line`; top: the keys above, in a file.
    """

    owner: str = ""
    where: Callable[[Keys], str | None] = lambda keys: None
    top: Keys = ()

    def unknown(self, at: Keys, known: Iterable[str]) -> UserError:
        inner, last = at[:-1], str(at[-1])
        if not self.owner:
            return UnknownName("key", last, known, where=self.where(at))
        if not inner:
            return UnknownName("option", last, known, of=self.owner, where=self.where(at))
        return UnknownName("key", last, known, of=self._name(inner), where=self.where(at))

    def missing(self, at: Keys) -> UserError:
        *inner, last = at
        if inner or not self.owner:
            what = f"{self._name(inner)} needs the key {last!r}"
        else:
            what = f"{self.owner} needs the option {last!r}"
        return ConfigError(what, where=self.where(tuple(inner)))

    def wrong(self, at: Keys, says: str) -> UserError:
        return ConfigError(f"{self._name(at)}: {says}", where=self.where(at))

    def refused(self, at: Keys, error: UserError) -> Iterator[UserError]:
        """The declaration's own errors, with their place where they name none."""
        for part in error.parts:
            part.where = part.where or self.where(at)
            yield part

    def _name(self, at: Sequence[str | int]) -> str:
        if not self.owner:
            return dotted((*self.top, *at)) or "the file"
        return (
            f"the option {dotted(at)!r} of {self.owner}" if at else f"the options of {self.owner}"
        )


def dotted(keys: Iterable[str | int]) -> str:
    """
    >>> dotted(("downloads", 0, "what"))
    'downloads.0.what'
    """
    return ".".join(map(str, keys))


def read(kind: type[Struct], values: object, source: Source) -> Struct:
    """`values`, a mapping as YAML gives it, as a struct.

    Raises UnknownName for a key that is not declared, ConfigError for one that is missing or does not fit,
    Several where there is more than one fault.
    """
    reading = _Reading(source)
    built = reading.struct(kind, values, ())
    raise_together(reading.faults)
    assert isinstance(built, kind)
    return built


@lru_cache(maxsize=1024)
def _fields(
    kind: type[msgspec.Struct],
) -> dict[str, tuple[msgspec.structs.FieldInfo, inspect.Type]]:
    """The fields of a struct by their keys, with the kinds of their values: slow to find out each time."""
    fields = msgspec.structs.fields(kind)
    return {field.encode_name: (field, declared(field.type)) for field in fields}


class _Reading:
    """One walk along a declaration and the values given for it."""

    def __init__(self, source: Source):
        self.source = source
        self.faults: list[UserError] = []

    def struct(self, kind: type[msgspec.Struct], values: object, at: Keys) -> Any:
        if isinstance(values, kind):
            # Made in Python, where nothing has checked it.
            kind, given = type(values), msgspec.structs.fields(values)
            values = {field.encode_name: getattr(values, field.name) for field in given}
        elif not isinstance(values, Mapping):
            return self._wrong(at, f"expected a mapping, got {name_of(values)}")
        elif issubclass(kind, Variants):
            named = values.get("kind")
            if named is not None and not isinstance(named, str):
                return self._wrong((*at, "kind"), f"expected a string, got {name_of(named)}")
            try:
                kind = kind.variant(named)
            except UserError as error:
                self.faults += self.source.refused((*at, "kind"), error)
                return None
        before = len(self.faults)
        fields = _fields(kind)
        strict = kind.__struct_config__.forbid_unknown_fields
        for key in values:
            if strict and key not in fields:
                self.faults.append(self.source.unknown((*at, key), fields))
        built = {}
        for key, (field, wanted) in fields.items():
            if key in values:
                built[field.name] = self.value(wanted, values[key], (*at, key))
            elif field.required:
                self.faults.append(self.source.missing((*at, key)))
        if len(self.faults) > before:
            return None
        try:
            return kind(**built)
        except UserError as error:
            self.faults += self.source.refused(at, error)
        except ValueError as error:
            self._wrong(at, str(error))
        return None

    def value(self, kind: inspect.Type, value: object, at: Keys) -> Any:
        """The value as the kind wants it: lists become tuples, whole numbers floats, mappings structs."""
        match kind:
            case inspect.Metadata():
                return self.value(kind.type, value, at)
            case inspect.UnionType():
                return self._union(kind, value, at)
            case inspect.StructType():
                return self.struct(kind.cls, value, at)
            case inspect.DictType() if isinstance(value, Mapping):
                return {
                    self._key(kind.key_type, key, at): self.value(kind.value_type, item, (*at, key))
                    for key, item in value.items()
                }
            case inspect.TupleType() if is_list(value) and len(value) == len(kind.item_types):
                pairs = zip(kind.item_types, value, strict=True)
                return tuple(self.value(t, item, (*at, n)) for n, (t, item) in enumerate(pairs))
            case inspect.CollectionType() if is_list(value) and fits(kind, len(value)):
                items = [self.value(kind.item_type, each, (*at, n)) for n, each in enumerate(value)]
                return _COLLECTION.get(type(kind), list)(items)
            case inspect.CustomType() if kind.cls is Path and isinstance(value, str):
                return Path(value)
            case _ if matches(kind, value):
                return float(value) if isinstance(kind, inspect.FloatType) else value  # type: ignore[arg-type]
        return self._wrong(at, expected(kind, value))

    def _union(self, kind: inspect.UnionType, value: object, at: Keys) -> Any:
        """By the first kind that takes the value; an integer stays one where both kinds of number do."""
        kinds = sorted(kind.types, key=lambda each: isinstance(each, inspect.FloatType))
        near = []
        for each in kinds:
            tried = _Reading(self.source)
            found = tried.value(each, value, at)
            if not tried.faults:
                return found
            if sort(each) == sort_of(value):
                near.append(tried)
        if len(near) == 1 and sort_of(value) in ("mapping", "list"):
            self.faults += near[0].faults
            return None
        return self._wrong(at, expected(kind, value))

    def _key(self, kind: inspect.Type, key: object, at: Keys) -> Any:
        if isinstance(kind, inspect.IntType) and isinstance(key, str) and re.fullmatch(r"\d+", key):
            key = int(key)  # a key of --set is text
        return self.value(kind, key, (*at, key if isinstance(key, int) else str(key)))

    def _wrong(self, at: Keys, says: str) -> None:
        self.faults.append(self.source.wrong(at, says))


_COLLECTION: dict[type, Callable[[list[Any]], Any]] = {
    inspect.VarTupleType: tuple,
    inspect.SetType: set,
    inspect.FrozenSetType: frozenset,
}
