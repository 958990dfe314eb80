"""A key/value cache with room to grow: transformers' own copies everything for each new token."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

ROOM = 64
"""Positions set aside behind what is held: few answers are longer."""


class RoomyLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Writes new positions into memory set aside for them; `keys` and `values` are views of it."""

    _store: tuple[Tensor, Tensor] | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        length = self.get_seq_length()
        new = length + key_states.shape[-2]
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        if not self._fits(new):
            self._store = (
                self._moved(self.keys, length, key_states, new),
                self._moved(self.values, length, value_states, new),
            )
        assert self._store is not None
        keys, values = self._store
        keys[:, :, length:new] = key_states
        values[:, :, length:new] = value_states
        self.keys, self.values = keys[:, :, :new], values[:, :, :new]
        return self.keys, self.values

    def _fits(self, length: int) -> bool:
        # Beams put other tensors in place of the views; the memory behind is then somebody else's.
        return (
            self._store is not None
            and self.keys is not None
            and self.keys.data_ptr() == self._store[0].data_ptr()
            and self.keys.shape[0] == self._store[0].shape[0]
            and length <= self._store[0].shape[2]
        )

    @staticmethod
    def _moved(held: Any, length: int, like: Tensor, new: int) -> Tensor:
        rows, heads, _, width = like.shape
        store = torch.empty(rows, heads, new + ROOM, width, dtype=like.dtype, device=like.device)
        if length:
            store[:, :, :length] = held
        return store


def roomy_cache() -> DynamicCache:
    """Empty, for models whose layers all keep every position."""
    cache: Any = DynamicCache()
    cache.layer_class_to_replicate = RoomyLayer
    return cache  # type: ignore[no-any-return]


def fresh_again(cache: DynamicCache, used: RoomyLayer, rows: int, length: int) -> bool:
    """Gives the memory of a layer that is done with to the next layer of a cache, up to `length`.

    False where that memory does not hold those positions of so many rows any more.
    """
    store = used._store
    if store is None or store[0].shape[0] != rows:
        return False
    kind: Any = RoomyLayer
    layer = kind()
    layer.lazy_initialization(store[0], store[1])
    layer._store = store
    layer.keys, layer.values = (part[:, :, :length] for part in store)
    cache.layers.append(layer)
    return True
