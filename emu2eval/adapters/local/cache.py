"""A key/value cache with room to grow, on top of positions that its rows share.

transformers' own copies everything for each new token, and holds what rows share once for each. A few-shot
prompt begins alike for all queries (fixed demonstrations), and is the same for its five beams or its hundred
choices. In a decoder of 33B, keys and values take 1.6 MB a position in bf16: 3.3 GB for a full context.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from emu2eval.adapters.local.layers import changed, kind_of, layers_of, tensors, unknown

ROOM = 64
"""Positions set aside, at most, behind what is held: few answers are longer."""

ROOM_OF_BEAMS = 8
"""As much for beams, of which there are many rows."""

Pair = tuple[Tensor, Tensor]
"""Keys and values, (rows, heads, length, width) each."""


@dataclass(frozen=True, slots=True)
class RowPlace:
    """One of `rows` rows; its positions are the last of `width` places."""

    number: int
    rows: int
    width: int


class Spare:
    """What a layer of beams was moved out of, on each device: the next one of its size is moved into it."""

    def __init__(self) -> None:
        self._pairs: dict[torch.device, Pair] = {}

    def like(self, pair: Pair) -> Pair:
        known = self._pairs.pop(pair[0].device, None)
        if known is not None and _sizes(known) == _sizes(pair):
            return known
        return torch.empty_like(pair[0]), torch.empty_like(pair[1])

    def put(self, pair: Pair) -> None:
        self._pairs[pair[0].device] = pair


def _sizes(pair: Pair) -> list[Any]:
    return [(part.dtype, part.shape) for part in pair]


class RoomyLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Writes new positions into memory set aside for them; `keys` and `values` are views of it.

    before: pairs that stand before every row's own positions; one of R rows serves N rows where R divides N
    (see `attention.Segments`). windows: the model asks for masks of all positions, for some are out of sight.
    within: what it holds of its own lies in a row of another layer, see `row_of`. spare: of all layers.
    """

    def __init__(
        self,
        before: tuple[Pair, ...] = (),
        windows: bool = False,
        within: tuple[RoomyLayer, RowPlace] | None = None,
        spare: Spare | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.before = before
        self.windows = windows
        self._within = within
        self._spare = spare or Spare()
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
        room = min(ROOM_OF_BEAMS if self._moves else ROOM, new)
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
        if pairs := self.pairs(self.get_seq_length()):
            keys, values = (
                parts[0] if len(parts) == 1 else torch.cat(parts, 2)
                for parts in zip(*pairs, strict=True)
            )
            layer._hold(keys, values)
        return layer

    def widened(self, repeats: int, length: int) -> RoomyLayer:
        """A copy of the first `length` positions for so many rows in place of each; none are shared."""
        assert not self.before
        layer = RoomyLayer(windows=self.windows)
        for keys, values in self.pairs(length):
            layer._hold(keys.repeat_interleave(repeats, 0), values.repeat_interleave(repeats, 0))
        return layer

    def _hold(self, keys: Tensor, values: Tensor) -> None:
        self.lazy_initialization(keys, values)
        self.keys, self.values = keys, values

    def batch_repeat_interleave(self, repeats: int) -> None:
        if self.own:
            super().batch_repeat_interleave(repeats)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Row i goes on from row beam_idx[i]; what rows share stays, so rows move within a prompt only."""
        self._moves = True
        if not self.own:
            return
        held = self._store
        if held is None or self.keys is not self._view or len(beam_idx) != len(held[0]):
            super().reorder_cache(beam_idx)  # type: ignore[arg-type]
            return
        length, order = self.own, beam_idx.to(held[0].device)
        # Into memory with the same room, where the layer before lay: nothing is set aside for a token.
        self._store = self._spare.like(held)
        for old, new in zip(held, self._store, strict=True):
            torch.index_select(old[:, :, :length], 0, order, out=new[:, :, :length])
        self._spare.put(held)
        self._show(length)

    def _show(self, length: int) -> None:
        assert self._store is not None
        self.keys, self.values = (part[:, :, :length] for part in self._store)
        self._view = self.keys


def _moved(held: Tensor, size: int) -> Tensor:
    rows, heads, length, width = held.shape
    store = held.new_empty(rows, heads, size, width)
    store[:, :, :length] = held
    return store


def new_cache(config: Any) -> DynamicCache:
    """An empty cache for a decoder. Raises ModelError for kinds of layers that are not known here.

    Layers that could forget positions out of their window keep every one: the masks see to windows.
    """
    return _cache(
        RoomyLayer() if type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) else layer
        for layer in layers_of(config)
    )


def above(cache: DynamicCache, repeats: int, length: int, windows: bool = False) -> DynamicCache:
    """An empty cache on top of the first `length` positions of another, for so many rows in place of each.

    Keys and values are not copied.
    """
    spare = Spare()
    return _cache(
        RoomyLayer(layer.pairs(length), windows, spare=spare)
        if isinstance(layer, RoomyLayer)
        else _widened(layer, repeats, cache.get_seq_length() - length)
        for layer in _layers(cache)
    )


def widened(cache: DynamicCache, repeats: int, length: int) -> DynamicCache:
    """A copy of the first `length` positions of a cache, for so many rows in place of each."""
    return _cache(
        layer.widened(repeats, length)
        if isinstance(layer, RoomyLayer)
        else _widened(layer, repeats, cache.get_seq_length() - length)
        for layer in _layers(cache)
    )


def _widened(layer: Any, repeats: int, beyond: int) -> Any:
    """A copy of a layer of transformers for so many rows in place of each, its last positions left out."""
    if beyond:
        assert kind_of(layer).cuts, "a state is that of its last position"
        layer = changed([layer], lambda parts, _: parts[0])
        layer.crop(-beyond)
    return changed([layer], lambda parts, rows: parts[0].repeat_interleave(repeats, rows))


def joined(cache: DynamicCache) -> DynamicCache:
    """A cache of one row in one piece of memory a layer."""
    return _cache(
        layer.joined() if isinstance(layer, RoomyLayer) else layer for layer in _layers(cache)
    )


def row_of(cache: DynamicCache, row: RowPlace) -> DynamicCache:
    """A cache of one row, on top of what `cache` shares, that writes its positions into a row of `cache`.

    The states of its layers are its own: `gather` puts them into `cache` when all rows were read.
    """
    return _cache(
        RoomyLayer(layer.before, layer.windows, (layer, row))
        if isinstance(layer, RoomyLayer)
        else changed([layer], lambda parts, rows: parts[0].narrow(rows, row.number, 1).clone())
        for layer in _layers(cache)
    )


def gather(cache: DynamicCache, rows: Sequence[DynamicCache]) -> None:
    """Puts the states of rows that were read one by one into the cache of all."""
    layers = _layers(cache)
    for number, layer in enumerate(layers):
        if not isinstance(layer, RoomyLayer):
            found = [_layers(row)[number] for row in rows]
            layers[number] = changed(found, torch.cat)


def held_bytes(cache: DynamicCache) -> int:
    """What a cache takes, positions that it shares left out."""
    return sum(
        part.nbytes
        for layer in _layers(cache)
        for part in (
            (layer.keys, layer.values) if isinstance(layer, RoomyLayer) else tensors(layer)
        )
        if part is not None
    )


def _cache(layers: Iterable[Any]) -> DynamicCache:
    cache: Any = DynamicCache()
    cache.layer_class_to_replicate = None
    cache.layers = list(layers)
    return cache  # type: ignore[no-any-return]


def _layers(cache: DynamicCache) -> list[Any]:
    """Raises ModelError for a cache that is more than its layers."""
    if type(cache) is not DynamicCache:
        raise unknown(type(cache).__name__)
    return cache.layers
