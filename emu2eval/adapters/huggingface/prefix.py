"""Keys and values of the beginning that the latest prompts share, computed once and kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import DynamicCache

from emu2eval.adapters.beginnings import CACHE_BYTES, Beginnings
from emu2eval.adapters.encoded import Encoded
from emu2eval.adapters.huggingface.reading import Reader


class Prefix:
    """They are those a pass over the whole prompt would give, up to rounding."""

    def __init__(self, reader: Reader):
        self.reader = reader
        self._beginnings = Beginnings()
        self._cache = reader.cache()

    def shared(self, prompts: Sequence[Encoded]) -> int:
        """How many positions all prompts begin with alike and are known."""
        if not self.reader.croppable:
            return 0
        usable, wanted = self._beginnings.shared(prompts, self.most, _whole)
        if wanted > usable:
            self._read(prompts[0], wanted)
        return wanted

    def cache(self, rows: int, length: int) -> DynamicCache:
        """A cache for so many rows that holds so many of those positions."""
        return self.reader.above(self._cache, rows, length)

    @property
    def most(self) -> int:
        """Positions that fit the memory, once it is known what one takes."""
        held = self._cache.get_seq_length()
        layers: Any = self._cache.layers if held else ()
        size = sum(layer.keys.nbytes + layer.values.nbytes for layer in layers)
        return CACHE_BYTES * held // size if size else CACHE_BYTES

    def _read(self, prompt: Encoded, stop: int) -> None:
        """From its start: what a part of it was read with can be cut, but a longer one is rare."""
        cache, head = self.reader.cache(), _head(prompt, stop)
        self.reader.read(self.reader.rows([head]), [head], cache, 0, stop)
        self._cache = cache
        self._beginnings.known = prompt.signature[:stop]


def _whole(prompt: Encoded, length: int) -> int:
    """The length, or where the image begins that it would cut through."""
    for start, stop in prompt.spans:
        if start < length < stop:
            return start
    return length


def _head(prompt: Encoded, length: int) -> Encoded:
    inside = tuple(
        s for s, (_, stop) in zip(prompt.shown, prompt.spans, strict=True) if stop <= length
    )
    return Encoded(prompt.ids[:length], prompt.slots[:length], inside)
