"""A key/value cache with room to grow, on top of positions that its rows share.

transformers' own copies everything for each new token, and holds what rows share once for each. A few-shot
prompt begins alike for all queries (fixed demonstrations), and is the same for its five beams or its hundred
choices. In a decoder of 33B, keys and values take 1.6 MB a position in bf16: 3.3 GB for a full context.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count, takewhile
from typing import Any, cast

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

ROOM = 64
"""Positions set aside, at most, behind what is held: few answers are longer."""

Pair = tuple[Tensor, Tensor]
"""Keys and values, (rows, heads, length, width) each."""


@dataclass(frozen=True, slots=True)
class RowPlace:
    """One of `rows` rows; its positions are the last of `width` places."""

    number: int
    rows: int
    width: int


class RoomyLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Writes new positions into memory set aside for them; `keys` and `values` are views of it.

    before: pairs that stand before every row's own positions; one of R rows serves N rows where R divides N
    (see `attention.Segments`). windows: the model asks for masks of all positions, for some are out of sight.
    within: what it holds of its own lies in a row of another layer, see `row_of`.
    """

    def __init__(
        self,
        before: tuple[Pair, ...] = (),
        windows: bool = False,
        within: tuple[RoomyLayer, RowPlace] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.before = before
        self.windows = windows
        self._within = within
        self._store: Pair | None = None
        self._view: Tensor | None = None
        self._moves = False

    @property
    def shared(self) -> int:
        return sum(keys.shape[2] for keys, _ in self.before)

    @property
    def own(self) -> int:
        return self.keys.shape[2] if self.is_initialized and self.keys is not None else 0

    def get_seq_length(self) -> int:
        return self.shared + self.own

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """The positions a mask is wanted for, and how many before them need none.

        A single row that serves all rows has no padding, so all of it is seen.
        """
        leading = takewhile(lambda keys: keys.shape[0] == 1, (keys for keys, _ in self.before))
        before = 0 if self.windows else sum(keys.shape[2] for keys in leading)
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
        if self._within is not None and not length:
            layer, row = self._within
            self._store = layer._row(row, new, (key_states, value_states))
            self._show(0)
        # Beams put other tensors in place of the view at every step, so that room would only be copied.
        room = 0 if self._moves else min(ROOM, new)
        if self._store is None or self.keys is not self._view or new > self._store[0].shape[2]:
            self._store = _moved(self.keys, new + room), _moved(self.values, new + room)
        keys, values = self._store
        keys[:, :, length:new] = key_states
        values[:, :, length:new] = value_states
        self._show(new)
        if not self.before:
            return self.keys, self.values
        return (
            (*(keys for keys, _ in self.before), self.keys),
            (*(values for _, values in self.before), self.values),
        )

    def _row(self, row: RowPlace, length: int, like: Pair) -> Pair:
        """Memory for so many positions of one row, the padding before them blank."""
        if self._store is None:
            self.lazy_initialization(*like)
            keys, values = (
                part.new_empty(row.rows, part.shape[1], row.width + ROOM, part.shape[3])
                for part in like
            )
            self._store = keys, values
            self._show(row.width)
        keys, values = self._store
        for part in (keys, values):
            # Padding is never attended to, but a weight of zero does not hide a NaN.
            part[row.number, :, : row.width - length] = 0
        own = slice(row.width - length, row.width)
        one = slice(row.number, row.number + 1)
        return keys[one, :, own], values[one, :, own]

    def pairs(self, length: int) -> tuple[Pair, ...]:
        """The first `length` positions, without a copy."""
        found, left = [], length
        for keys, values in (*self.before, (self.keys, self.values)):
            if left > 0 and keys is not None and values is not None:
                found.append((keys[:, :, :left], values[:, :, :left]))
                left -= keys.shape[2]
        return tuple(found)

    def joined(self) -> RoomyLayer:
        """The same positions of a layer of one row in one piece of memory, without room behind it."""
        layer = RoomyLayer(windows=self.windows)
        pairs = self.pairs(self.get_seq_length())
        keys, values = (
            parts[0] if len(parts) == 1 else torch.cat(parts, 2)
            for parts in zip(*pairs, strict=True)
        )
        layer.lazy_initialization(keys, values)
        layer.keys, layer.values = keys, values
        return layer

    def batch_repeat_interleave(self, repeats: int) -> None:
        if self.own:
            super().batch_repeat_interleave(repeats)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Row i goes on from row beam_idx[i]; what rows share stays, so rows move within a prompt only."""
        self._moves = True
        if self.own:
            super().reorder_cache(beam_idx)  # type: ignore[arg-type]

    def _show(self, length: int) -> None:
        assert self._store is not None
        self.keys, self.values = (part[:, :, :length] for part in self._store)
        self._view = self.keys


def _moved(held: Tensor, size: int) -> Tensor:
    rows, heads, length, width = held.shape
    store = held.new_empty(rows, heads, size, width)
    store[:, :, :length] = held
    return store


def roomy_cache(before: Iterable[tuple[Pair, ...]] = (), windows: bool = False) -> DynamicCache:
    """For models whose layers all keep every position. before: see `RoomyLayer`, for each layer."""
    cache: Any = DynamicCache()
    cache.layer_class_to_replicate = RoomyLayer
    cache.layers.extend(RoomyLayer(pairs, windows) for pairs in before)
    return cache  # type: ignore[no-any-return]


def above(cache: DynamicCache, length: int, windows: bool = False) -> DynamicCache:
    """An empty cache on top of the first `length` positions of another, for any multiple of its rows."""
    layers: Any = cache.layers
    return roomy_cache((layer.pairs(length) for layer in layers), windows)


def joined(cache: DynamicCache) -> DynamicCache:
    """A cache of one row in one piece of memory a layer."""
    whole: Any = roomy_cache()
    layers: Any = cache.layers
    whole.layers.extend(layer.joined() for layer in layers)
    return whole  # type: ignore[no-any-return]


def row_of(cache: DynamicCache, row: RowPlace) -> DynamicCache:
    """A cache of one row, on top of what `cache` shares, that writes its positions into a row of `cache`."""
    one, layers, numbers = roomy_cache(), cast(Any, cache).layers, count()

    def layer() -> RoomyLayer:
        # Not the length of `one`: a cache that its own function holds is freed late, gigabytes too late.
        number = next(numbers)
        layers.extend(RoomyLayer() for _ in range(number + 1 - len(layers)))
        whole = layers[number]
        return RoomyLayer(whole.before, whole.windows, (whole, row))

    cast(Any, one).layer_class_to_replicate = layer
    for _ in range(len(layers)):
        one.layers.append(layer())
    return one


def held_bytes(cache: DynamicCache) -> int:
    """What the positions of a cache take, those that it shares left out."""
    layers: Any = cache.layers
    return sum(layer.keys.nbytes + layer.values.nbytes for layer in layers if layer.is_initialized)
