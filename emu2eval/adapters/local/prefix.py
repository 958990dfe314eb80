"""Keys and values of the beginning that the latest prompts share, computed once and kept.

Fixed demonstrations, the system message and an image with many questions all make prompts begin
alike. What counts as alike is the token ids together with the digests of the images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import DynamicCache

from emu2eval.adapters.local.cache import held_bytes, joined
from emu2eval.adapters.local.encoded import Encoded, common
from emu2eval.adapters.local.reading import Reader

CACHE_BYTES = 4 << 30
"""4 GiB holds a full context of a 33B decoder in bf16 (1.6 MB a position)."""
WORTHWHILE = 16
"""Positions below which a pass of its own costs more than it saves."""


class Prefix:
    """Follows the prompts of a run; what it holds is what a pass over them would give, up to rounding."""

    def __init__(self, reader: Reader[Any], max_bytes: int = CACHE_BYTES):
        self.reader = reader
        self.max_bytes = max_bytes
        self._cache = reader.cache()
        self._known: tuple[int | str, ...] = ()
        self._previous: tuple[int | str, ...] | None = None

    def shared(self, prompts: Sequence[Encoded]) -> int:
        """How many positions all prompts begin with alike and are known, after reading what is worth it.

        Each prompt keeps a last position to be read on its own: the one that is continued. A prompt alone
        is compared with the one before it.
        """
        if not self.reader.croppable:
            return 0
        signatures = [prompt.signature for prompt in prompts]
        room = min(map(len, signatures)) - 1
        others = [self._previous] if len(prompts) == 1 and self._previous is not None else []
        alone = len(prompts) == 1 and not others
        alike = 0 if alone else min(room, self._most, common([*signatures, *others]))
        alike = _whole(prompts[0], alike)
        usable = _whole(prompts[0], min(room, common([*signatures, self._known])))
        self._previous = signatures[0]
        if alike >= usable + WORTHWHILE:
            self._read(prompts[0], usable, alike)
            return alike
        return usable if usable >= WORTHWHILE else 0

    def cache(self, rows: int, length: int) -> DynamicCache:
        """A cache for so many rows that holds so many of those positions."""
        return self.reader.above(self._cache, rows, length)

    @property
    def _most(self) -> int:
        """Positions that fit the memory: as those that are held, else by the decoder's sizes."""
        config, held = self.reader.config, self._cache.get_seq_length()
        if held:
            return self.max_bytes * held // held_bytes(self._cache)
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width = getattr(config, "head_dim", None) or (
            config.hidden_size // config.num_attention_heads
        )
        layer = 2 * heads * width * self.reader.model.dtype.itemsize
        return int(self.max_bytes // (config.num_hidden_layers * layer))

    def _read(self, prompt: Encoded, start: int, stop: int) -> None:
        """Positions on top of the first `start` of those that are known."""
        cache = self.reader.above(self._cache, 1, start) if start else self.reader.cache()
        head = _head(prompt, stop)
        self.reader.read(self.reader.rows([head]), [head], cache, start, stop)
        self._cache = joined(cache)
        self._known = prompt.signature[:stop]


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
