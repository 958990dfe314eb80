"""Kinds of values as msgspec describes them: what is of one, and how both are put into words.

The words name the kind of a value, never a text, which may be a secret in the wrong place.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, TypeGuard

import msgspec
from msgspec import inspect


def declared(annotation: Any) -> inspect.Type:
    """What msgspec makes of an annotation; one that it cannot read takes anything."""
    try:
        return inspect.type_info(annotation)
    except TypeError:
        return inspect.AnyType()


def is_list(value: object) -> TypeGuard[Collection[Any]]:
    return isinstance(value, list | tuple | set | frozenset)


def fits(kind: inspect.CollectionType, length: int) -> bool:
    least, most = kind.min_length or 0, kind.max_length
    return length >= least and (most is None or length <= most)


def matches(kind: inspect.Type, value: object) -> bool:
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
            return _is_instance(value, kind.cls)
    return False


def _is_instance(value: object, cls: type) -> bool:
    try:
        return isinstance(value, cls)
    except TypeError:
        return True  # a protocol that cannot be asked for while the program runs


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


def expected(kind: inspect.Type, value: object) -> str:
    """What is wanted, and what there is instead: a number itself, else its kind alone."""
    says = f"expected {describe(kind)}"
    if isinstance(value, str) and (choices := list(_choices(kind))):
        near = difflib.get_close_matches(value, choices, n=1, cutoff=0.5)
        return says + (f"; did you mean {near[0]!r}?" if near else "")
    numeric = any(isinstance(each, inspect.IntType | inspect.FloatType) for each in _parts(kind))
    return f"{says}, got {value if numeric and _is_number(value) else name_of(value)}"


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
            return _or([_literal(choice) for choice in kind.values])
        case inspect.TupleType():
            return f"a list of {len(kind.item_types)}"
        case inspect.CollectionType():
            return "a list" + (f" of at least {kind.min_length}" if kind.min_length else "")
        case inspect.CustomType() | inspect.DataclassType() | inspect.EnumType():
            return f"{kind.cls.__name__} (an object)"
    return _NAMES[sort(kind)]


def _literal(choice: object) -> str:
    """As YAML has it."""
    return {True: "true", False: "false"}[choice] if isinstance(choice, bool) else repr(choice)


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


def sort(kind: inspect.Type) -> str:
    """The sort of value that a kind takes, whatever it holds."""
    match kind:
        case inspect.Metadata():
            return sort(kind.type)
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


def sort_of(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, Mapping | msgspec.Struct):
        return "mapping"
    for kind, name in ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string")):
        if isinstance(value, kind):
            return name
    return "list" if is_list(value) else "object"


def name_of(value: object) -> str:
    """What a value is, without the value itself, which may be a secret."""
    if isinstance(value, bool):
        return "true" if value else "false"
    outer = sort_of(value)
    return type(value).__name__ if outer == "object" else _NAMES[outer]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
