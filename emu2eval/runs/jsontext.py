"""Values as JSON that every program reads, also where a text of somebody else's is no proper text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

_encode = msgspec.json.Encoder().encode


def encode(value: Any) -> bytes:
    """UTF-8 JSON. A server that cuts an emoji in two gives half a character, which UTF-8 has no bytes for.

    >>> encode({"text": "cut \\ud83d"}).decode()
    '{"text":"cut \ufffd"}'
    """
    try:
        return _encode(value)
    except UnicodeEncodeError:
        return _encode(whole(msgspec.to_builtins(value)))


def whole(value: Any) -> Any:
    """The value with the halves of characters in its texts joined; one without its other half is replaced."""
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, Mapping):
        return {whole(name): whole(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [whole(inner) for inner in value]
    return value
