"""Keys: hashes by which equal requests and equal settings are known."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from emu2eval.media import images
from emu2eval.types import Image, Output, Part, Prompt, Video

_encode = msgspec.json.Encoder().encode


def value_key(value: Any) -> str:
    """Hex sha256 of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(_encode(in_order(value))).hexdigest()


def request_key(
    prompt: Prompt, output: Output, model_digest: str, draw: tuple[int | str, ...] | None = None
) -> str:
    """Hex sha256 of what is asked of whom. Images count by the digest of their bytes. draw: what tells the
    answers to equal requests apart, where the model draws them."""
    content = (
        model_digest,
        prompt.system,
        [(_named(turn.ask), _named(turn.reply)) for turn in prompt.turns],
        _named(prompt.query),
        prompt.lead,
        prompt.separator,
        output.kind,
        output,
        *(() if prompt.opening is None else (prompt.opening,)),
        *(() if draw is None else (draw,)),
    )
    return hashlib.sha256(_encode(content)).hexdigest()


def _named(parts: tuple[Part, ...]) -> list[Any]:
    named: list[Any] = []
    for part in parts:
        if isinstance(part, Image):
            named.append([images.digest(part)])
        elif isinstance(part, Video):
            named.append([[images.digest(frame) for frame in part.frames]])
        else:
            named.append(part)
    return named


def in_order(value: Any) -> Any:
    """The same value with the keys of every mapping in order, so that equal values encode equally."""
    if isinstance(value, Mapping):
        return {str(key): in_order(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, (list, tuple)):
        return [in_order(item) for item in value]
    return value
