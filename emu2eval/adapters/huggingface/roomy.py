"""A key/value cache with room to grow, on top of positions that its rows share.

transformers' own copies everything for each new token, and holds what rows share once for each.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

ROOM = 64
"""Positions set aside behind what is held: few answers are longer."""

Pair = tuple[Tensor, Tensor]
"""Keys and values, (rows, heads, length, width) each."""


class RoomyLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Writes new positions into memory set aside for them; `keys` and `values` are views of it.

    before: pairs of one row each that stand before every row's own positions. windows: the model asks
    for masks of all positions, for some are out of sight.
    """

    def __init__(self, before: tuple[Pair, ...] = (), windows: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.before = before
        self.windows = windows
        self._store: Pair | None = None

    @property
    def shared(self) -> int:
        return sum(keys.shape[2] for keys, _ in self.before)

    @property
    def own(self) -> int:
        return self.keys.shape[2] if self.is_initialized and self.keys is not None else 0

    def get_seq_length(self) -> int:
        return self.shared + self.own

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """The positions a mask is wanted for, and how many before them need none."""
        before = 0 if self.windows else self.shared
        return self.get_seq_length() - before + query_length, before

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Any, Any]:
        """Adds positions. Gives all keys and all values: tensors, or segments where rows share some."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states[:, :, :0], value_states[:, :, :0]
        assert self.keys is not None and self.values is not None
        length, new = self.own, self.own + key_states.shape[2]
        if not self._fits(new):
            self._store = _moved(self.keys, new), _moved(self.values, new)
        assert self._store is not None
        keys, values = self._store
        keys[:, :, length:new] = key_states
        values[:, :, length:new] = value_states
        self.keys, self.values = keys[:, :, :new], values[:, :, :new]
        if not self.before:
            return self.keys, self.values
        return (
            (*(keys for keys, _ in self.before), self.keys),
            (*(values for _, values in self.before), self.values),
        )

    def place(self, row: int, rows: int, width: int, one: RoomyLayer) -> None:
        """See `place` below."""
        assert one.keys is not None and one.values is not None
        if not self.is_initialized:
            self.lazy_initialization(one.keys, one.values)
            keys, values = (
                part.new_empty(rows, part.shape[1], width + ROOM, part.shape[3])
                for part in (one.keys, one.values)
            )
            self._store = keys, values
            self.keys, self.values = keys[:, :, :width], values[:, :, :width]
        assert self.keys is not None and self.values is not None
        for held, given in ((self.keys, one.keys), (self.values, one.values)):
            # Nobody looks at the padding, but weights of zero do not hide what is no number.
            held[row, :, : width - one.own] = 0
            held[row, :, width - one.own :] = given[0]

    def pairs(self, length: int) -> tuple[Pair, ...]:
        """The first `length` positions of a layer of one row, without a copy."""
        found, left = [], length
        for keys, values in (*self.before, (self.keys, self.values)):
            if left > 0 and keys is not None and values is not None:
                found.append((keys[:, :, :left], values[:, :, :left]))
                left -= keys.shape[2]
        return tuple(found)

    def batch_repeat_interleave(self, repeats: int) -> None:
        if self.own:
            super().batch_repeat_interleave(repeats)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        if self.own:
            super().reorder_cache(beam_idx)  # type: ignore[arg-type]

    def _fits(self, length: int) -> bool:
        # Beams put other tensors in place of the views; the memory behind is then somebody else's.
        return (
            self._store is not None
            and self.keys is not None
            and self.keys.data_ptr() == self._store[0].data_ptr()
            and self.keys.shape[0] == self._store[0].shape[0]
            and length <= self._store[0].shape[2]
        )


def _moved(held: Tensor, new: int) -> Tensor:
    rows, heads, length, width = held.shape
    store = held.new_empty(rows, heads, new + ROOM, width)
    store[:, :, :length] = held
    return store


def roomy_cache(before: Iterable[tuple[Pair, ...]] = (), windows: bool = False) -> DynamicCache:
    """For models whose layers all keep every position. before: see `RoomyLayer`, for each layer."""
    cache: Any = DynamicCache()
    cache.layer_class_to_replicate = RoomyLayer
    cache.layers.extend(RoomyLayer(pairs, windows) for pairs in before)
    return cache  # type: ignore[no-any-return]


def place(cache: DynamicCache, row: int, rows: int, width: int, one: DynamicCache) -> None:
    """Puts what a cache of one row holds of its own into a row of another, as the last of `width` places."""
    layers: Any = cache.layers
    layers.extend(RoomyLayer() for _ in range(len(one.layers) - len(layers)))
    for layer, own in zip(layers, one.layers, strict=True):
        layer.place(row, rows, width, own)
