"""Settings: the declared options of a part, and the one check of what a file, --set or a call gives for them.

The check walks the declaration itself, so that every fault is known by its path, and all faults of a mapping
are told together. Messages name the kind of a value that does not fit, and the value itself only where both
are numbers: anything else may be a secret in the wrong place.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard, TypeVar, dataclass_transform

import msgspec
from msgspec import inspect

from emu2eval.errors import ConfigError, Several, UnknownName, UserError

Keys = tuple[str | int, ...]
"""The way to a value, from the top of the mapping that holds it."""

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
    (`Literal`). What no type can say goes into `__post_init__`, which raises ConfigError or ValueError."""


class Variants(Settings):
    """Settings of several kinds: the key `kind` says of which class they are. Subclass it for the family."""

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
        kind = "key"
        if self.owner:
            inner = at[:-1]
            kind = f"key of {self._name(inner)}" if inner else f"option of {self.owner}"
        return UnknownName(kind, str(at[-1]), known, where=self.where(at))

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
    if len(reading.faults) > 1:
        raise Several(reading.faults)
    for only in reading.faults:
        raise only
    assert isinstance(built, kind)
    return built


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
            return self._wrong(at, f"expected a mapping, got {_kind(values)}")
        elif issubclass(kind, Variants):
            named = values.get("kind")
            if named is not None and not isinstance(named, str):
                return self._wrong((*at, "kind"), f"expected a string, got {_kind(named)}")
            try:
                kind = kind.variant(named)
            except UserError as error:
                self.faults += self.source.refused((*at, "kind"), error)
                return None
        before = len(self.faults)
        declared = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        strict = kind.__struct_config__.forbid_unknown_fields
        for key in values:
            if strict and key not in declared:
                self.faults.append(self.source.unknown((*at, key), declared))
        built = {}
        for key, field in declared.items():
            if key in values:
                built[field.name] = self.value(_declared(field.type), values[key], (*at, key))
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
            case inspect.TupleType() if _is_list(value) and len(value) == len(kind.item_types):
                pairs = zip(kind.item_types, value, strict=True)
                return tuple(self.value(t, item, (*at, n)) for n, (t, item) in enumerate(pairs))
            case inspect.CollectionType() if _is_list(value) and _fits(kind, len(value)):
                items = [self.value(kind.item_type, each, (*at, n)) for n, each in enumerate(value)]
                return _COLLECTION.get(type(kind), list)(items)
            case _ if _matches(kind, value):
                return float(value) if isinstance(kind, inspect.FloatType) else value  # type: ignore[arg-type]
        return self._wrong(at, _expected(kind, value))

    def _union(self, kind: inspect.UnionType, value: object, at: Keys) -> Any:
        """By the first kind that takes the value; an integer stays one where both kinds of number do."""
        kinds = sorted(kind.types, key=lambda each: isinstance(each, inspect.FloatType))
        near = []
        for each in kinds:
            tried = _Reading(self.source)
            found = tried.value(each, value, at)
            if not tried.faults:
                return found
            if _outer(each) == _outer_of(value):
                near.append(tried)
        if len(near) == 1 and _outer_of(value) in ("mapping", "list"):
            self.faults += near[0].faults
            return None
        return self._wrong(at, _expected(kind, value))

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


def _declared(kind: Any) -> inspect.Type:
    """What msgspec makes of an annotation; one that it cannot read takes anything."""
    try:
        return inspect.type_info(kind)
    except TypeError:
        return inspect.AnyType()


def _is_list(value: object) -> TypeGuard[Collection[Any]]:
    return isinstance(value, list | tuple | set | frozenset)


def _fits(kind: inspect.CollectionType, length: int) -> bool:
    least, most = kind.min_length or 0, kind.max_length
    return length >= least and (most is None or length <= most)


def _matches(kind: inspect.Type, value: object) -> bool:
    """Whether a value that holds no others is of the kind and within its bounds."""
    number = _is_number(value)
    match kind:
        case inspect.AnyType():
            return True
        case inspect.NoneType():
            return value is None
        case inspect.BoolType():
            return isinstance(value, bool)
        case inspect.IntType():
            return number and isinstance(value, int) and _within(kind, value)
        case inspect.FloatType():
            return number and _within(kind, value)  # type: ignore[arg-type]
        case inspect.StrType():
            return isinstance(value, str) and _is_text(kind, value)
        case inspect.LiteralType():
            return any(type(value) is type(each) and value == each for each in kind.values)
        case inspect.CustomType() | inspect.DataclassType() | inspect.EnumType():
            return isinstance(value, kind.cls)
    return False


def _within(kind: inspect.IntType | inspect.FloatType, value: float) -> bool:
    return (
        (kind.ge is None or value >= kind.ge)
        and (kind.gt is None or value > kind.gt)
        and (kind.le is None or value <= kind.le)
        and (kind.lt is None or value < kind.lt)
        and (kind.multiple_of is None or value % kind.multiple_of == 0)
    )


def _is_text(kind: inspect.StrType, value: str) -> bool:
    least, most = kind.min_length or 0, kind.max_length
    matched = kind.pattern is None or re.search(kind.pattern, value) is not None
    return matched and len(value) >= least and (most is None or len(value) <= most)


# -- words ----------------------------------------------------------------------------------------


def _expected(kind: inspect.Type, value: object) -> str:
    """What is wanted, and what there is instead: a number itself, else its kind alone."""
    says = f"expected {describe(kind)}"
    if isinstance(value, str) and (choices := list(_choices(kind))):
        near = difflib.get_close_matches(value, choices, n=1, cutoff=0.5)
        return says + (f"; did you mean {near[0]!r}?" if near else "")
    numeric = any(isinstance(each, inspect.IntType | inspect.FloatType) for each in _parts(kind))
    return f"{says}, got {value if numeric and _is_number(value) else _kind(value)}"


def _parts(kind: inspect.Type) -> tuple[inspect.Type, ...]:
    return kind.types if isinstance(kind, inspect.UnionType) else (kind,)


def _choices(kind: inspect.Type) -> Iterator[str]:
    for each in _parts(kind):
        if isinstance(each, inspect.LiteralType):
            yield from (choice for choice in each.values if isinstance(choice, str))


def describe(kind: inspect.Type) -> str:
    """A kind of value in words.

    >>> from typing import Annotated
    >>> describe(inspect.type_info(Annotated[int, msgspec.Meta(ge=1)] | None))
    'an integer of at least 1, or null'
    """
    match kind:
        case inspect.Metadata():
            return describe(kind.type)
        case inspect.UnionType():
            kinds = [
                describe(each) for each in kind.types if not isinstance(each, inspect.NoneType)
            ]
            if len(kinds) == len(kind.types):
                return _or(kinds)
            simple = len(kinds) == 1 and len(kinds[0].split()) <= 2
            return _or(kinds) + (" or null" if simple else ", or null")
        case inspect.IntType():
            return "an integer" + _bounds(kind)
        case inspect.FloatType():
            return "a number" + _bounds(kind)
        case inspect.StrType():
            return "a string" + (f" that matches {kind.pattern}" if kind.pattern else "")
        case inspect.LiteralType():
            return _or([repr(choice) for choice in kind.values])
        case inspect.TupleType():
            return f"a list of {len(kind.item_types)}"
        case inspect.CollectionType():
            return "a list" + (f" of at least {kind.min_length}" if kind.min_length else "")
        case inspect.CustomType() | inspect.DataclassType() | inspect.EnumType():
            return f"{kind.cls.__name__} (an object)"
    return _NAMES[_outer(kind)]


def _bounds(kind: inspect.IntType | inspect.FloatType) -> str:
    if kind.ge is not None and kind.le is not None:
        return f" from {kind.ge:g} to {kind.le:g}"
    words = {"of at least": kind.ge, "above": kind.gt, "of at most": kind.le, "below": kind.lt}
    said = [f"{word} {bound:g}" for word, bound in words.items() if bound is not None]
    if kind.multiple_of is not None:
        said.append(f"divisible by {kind.multiple_of:g}")
    return " " + " and ".join(said) if said else ""


def _or(words: Sequence[str]) -> str:
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]])) if words else "nothing"


_NAMES = {
    "null": "null",
    "boolean": "true or false",
    "integer": "an integer",
    "number": "a number",
    "string": "a string",
    "list": "a list",
    "mapping": "a mapping",
    "object": "an object",
}


def _outer(kind: inspect.Type) -> str:
    """The sort of value that a kind takes, whatever it holds."""
    match kind:
        case inspect.Metadata():
            return _outer(kind.type)
        case inspect.NoneType():
            return "null"
        case inspect.BoolType():
            return "boolean"
        case inspect.IntType():
            return "integer"
        case inspect.FloatType():
            return "number"
        case inspect.StrType() | inspect.LiteralType():
            return "string"
        case inspect.CollectionType() | inspect.TupleType():
            return "list"
        case inspect.DictType() | inspect.StructType():
            return "mapping"
    return "object"


def _outer_of(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, Mapping | msgspec.Struct):
        return "mapping"
    for kind, name in ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string")):
        if isinstance(value, kind):
            return name
    return "list" if _is_list(value) else "object"


def _kind(value: object) -> str:
    """What a value is, without the value itself, which may be a secret."""
    if isinstance(value, bool):
        return "true" if value else "false"
    outer = _outer_of(value)
    return type(value).__name__ if outer == "object" else _NAMES[outer]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
