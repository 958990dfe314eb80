"""What each kind of layer of transformers' caches holds, so that a row of it can be copied for many."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers import DynamicCache

from emu2eval.errors import ModelError

KEYS = {"keys": 0, "values": 0}
STATES = {"conv_states": 0, "recurrent_states": 0}


@dataclass(frozen=True, slots=True)
class Held:
    """rows: by attribute, which dimension of its tensors counts rows.

    cuts: what it holds of a beginning can be cut from what it holds of more; a state cannot be.
    pads: padding before a row leaves no trace in it. apart: each row of a batch can be read on its own.
    """

    rows: Mapping[str, int]
    cuts: bool = True
    pads: bool = True
    apart: bool = False


KINDS = {
    "DynamicLayer": Held(KEYS, apart=True),
    "DynamicSlidingWindowLayer": Held(KEYS, apart=True),
    "LinearAttentionLayer": Held(STATES, cuts=False, pads=False, apart=True),
    "LinearAttentionAndFullAttentionLayer": Held({**KEYS, **STATES}, cuts=False, pads=False),
    "LinearAttentionAndSlidingWindowAttentionLayer": Held(
        {**KEYS, **STATES}, cuts=False, pads=False
    ),
    "DynamicIndexedLayer": Held({**KEYS, "indexer_keys": 0, "indexer_position_ids": 1}),
    "MiniMaxM3VLSparseCacheLayer": Held({**KEYS, "idx_keys": 0}),
    "DummyLayer": Held({}, apart=True),
}
"""By the class's name: some are declared beside the model that has them."""

Change = Callable[[list[Tensor], int], Tensor]
"""(the same tensor of several layers, the dimension of its rows) -> a tensor."""


def kind_of(layer: Any) -> Held:
    """Raises ModelError for a kind that is not known here."""
    name = type(layer).__name__
    if name not in KINDS:
        raise unknown(name)
    return KINDS[name]


def layers_of(config: Any) -> list[Any]:
    """The empty layers of a decoder's cache, of kinds that are known here. Raises ModelError."""
    if getattr(config, "is_encoder_decoder", False):
        raise unknown("EncoderDecoderCache")
    layers: list[Any] = DynamicCache(config=config).layers
    for layer in layers:
        kind_of(layer)
    return layers


def changed(layers: Sequence[Any], change: Change) -> Any:
    """One layer of what is made of each tensor that all of them hold. Raises ModelError, see `kind_of`."""
    first, kind = layers[0], kind_of(layers[0])
    new = copy(first)
    for name, value in vars(first).items():
        if name not in kind.rows:
            if _holds(value):
                raise unknown(f"{type(first).__name__}.{name}")
            if isinstance(value, dict):
                setattr(new, name, dict(value))
        elif isinstance(value, dict):
            parts = {key: [getattr(layer, name)[key] for layer in layers] for key in value}
            made = {key: _made(found, kind.rows[name], change) for key, found in parts.items()}
            setattr(new, name, made)
        else:
            found = [getattr(layer, name) for layer in layers]
            setattr(new, name, _made(found, kind.rows[name], change))
    return new


def tensors(layer: Any) -> Iterator[Tensor]:
    """What a layer holds of its rows."""
    for name in kind_of(layer).rows:
        value = getattr(layer, name)
        for part in value.values() if isinstance(value, dict) else (value,):
            if part is not None:
                yield part


def _made(found: list[Tensor | None], rows: int, change: Change) -> Tensor | None:
    held = [part for part in found if part is not None]
    # Before its first position a layer holds nothing, or a tensor of one dimension that is empty. One that is
    # empty because its width is 0 has rows all the same.
    if len(held) < len(found) or held[0].ndim < 2:
        return found[0]
    return change(held, rows)


def _holds(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_holds, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_holds, value))
    return isinstance(value, Tensor) and value.ndim > 0


def unknown(name: str) -> ModelError:
    """What to say of a class of transformers' caches that is not known here."""
    return ModelError(
        f"the model uses a transformers cache that is not supported ({name}), so its answers could be "
        "silently wrong",
        hint="the installed transformers may be newer than the tested version; for supported models: "
        "emu2eval ls families",
    )
