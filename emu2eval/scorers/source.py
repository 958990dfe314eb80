"""A digest of a function: of its source and of what it uses of its own module."""

from __future__ import annotations

import hashlib
import inspect
import re
import types
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

_PLAIN = (bool, int, float, str, bytes, type(None))


def source_digest(function: Callable[..., Any]) -> str:
    """Hex sha256 of a function's source, and of the functions, classes and constants of its own module that
    it uses, and those it closes over; of compiled code where there is no source. What it imports counts by
    name alone.

    >>> def shout(text): return text.upper()
    >>> source_digest(shout) == source_digest(shout)
    True
    """
    found = hashlib.sha256()
    for text in _texts(function, set()):
        found.update(text.encode("utf-8", "surrogatepass") + b"\0")
    return found.hexdigest()


def _texts(value: Any, seen: set[int]) -> Iterator[str]:
    """What the value is made of, in an order that is always the same."""
    if id(value) in seen:
        return
    seen.add(id(value))
    value = inspect.unwrap(value) if callable(value) and not isinstance(value, type) else value
    code = getattr(value, "__code__", None)
    try:
        yield inspect.getsource(value)
    except (OSError, TypeError):
        yield _compiled(code) if code is not None else _named(value)
    if code is None:
        return
    cells = zip(code.co_freevars, value.__closure__ or (), strict=True)
    used: dict[str, Any] = {}
    for name, cell in cells:
        with suppress(ValueError):  # a cell that is not filled yet
            used[name] = cell.cell_contents
    for name in sorted(_names(code)):
        if name in value.__globals__:
            used.setdefault(name, value.__globals__[name])
    used |= {f"{n}=": each for n, each in enumerate(value.__defaults__ or ())}
    for name in sorted(used):
        each = used[name]
        if isinstance(each, types.FunctionType | type) and each.__module__ == value.__module__:
            yield from _texts(each, seen)
        else:
            yield f"{name}: {_constant(each)}"


def _names(code: types.CodeType) -> set[str]:
    inner = (each for each in code.co_consts if isinstance(each, types.CodeType))
    return set(code.co_names).union(*map(_names, inner))


def _compiled(code: types.CodeType) -> str:
    constants = [
        _compiled(each) if isinstance(each, types.CodeType) else repr(each)
        for each in code.co_consts
    ]
    return f"{code.co_code.hex()} {code.co_names} {constants}"


def _constant(value: Any) -> str:
    if isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}{[_constant(each) for each in value]}"
    if isinstance(value, set | frozenset):
        return f"set{sorted(_constant(each) for each in value)}"
    if isinstance(value, dict):
        return f"dict{[(_constant(key), _constant(each)) for key, each in value.items()]}"
    if isinstance(value, re.Pattern):
        return repr(value)
    return _named(value)


def _named(value: Any) -> str:
    known = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    return str(known or type(value).__qualname__)
