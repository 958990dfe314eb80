"""Keys and values of the beginning that the latest prompts share, computed once and kept.

Fixed demonstrations, the system message and an image with many questions all make prompts begin
alike. What counts as alike is the token ids together with the digests of the images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import DynamicCache

from emu2eval.adapters.local.cache import held_bytes, joined
from emu2eval.adapters.local.encoded import Encoded, common
from emu2eval.adapters.local.reading import Reader

CACHE_BYTES = 4 << 30
"""4 GiB holds a full context of a 33B decoder in bf16 (1.6 MB a position)."""
ENDS = 2
"""Beginnings that are kept, one on top of the other; where a longer one can be cut, if they fit."""
WORTHWHILE = 16
"""Positions below which a pass of its own costs more than it saves."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """Positions that were read, by what makes them alike, and their keys, values and states (one row).

    passes: from where to where, one after the other: others give other last bits.
    """

    signature: tuple[int | str, ...]
    passes: tuple[tuple[int, int], ...]
    cache: DynamicCache


class Prefix:
    """Follows the prompts of a batch; what it holds is what a pass over them would give, up to rounding.

    kept: what batches have read. Of what earlier ones did, a batch takes only what it would read itself, in
    the same passes: its bits do not depend on the batches before it, which are others with more replicas, or
    once a run is continued.
    """

    def __init__(self, reader: Reader[Any], max_bytes: int = CACHE_BYTES):
        self.reader = reader
        self.max_bytes = max_bytes
        self.kept: list[Beginning] = []
        self._known: list[Beginning] = []
        self._used: Beginning | None = None
        self._previous: tuple[int | str, ...] | None = None

    def begin(self) -> None:
        """Another batch comes next."""
        self._known, self._used, self._previous = [], None, None

    def expect(self, prompts: Sequence[Encoded]) -> None:
        """Reads what prompts share that are asked one by one."""
        if len(prompts) > 1:
            self.shared(prompts)
            self._previous = None

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
        self._previous = signatures[0]
        usable, self._used = 0, None
        for beginning in self._known:
            length = self._usable(beginning, prompts[0], room, signatures)
            if length > usable:
                usable, self._used = length, beginning
        if alike >= usable + WORTHWHILE:
            self._read(prompts[0], usable, alike)
            return alike
        return usable if usable >= WORTHWHILE else 0

    def cache(self, rows: int, length: int) -> DynamicCache:
        """A cache for so many rows that holds so many of those positions."""
        assert self._used is not None
        return self.reader.above(self._used.cache, rows, length)

    def _usable(
        self,
        known: Beginning,
        prompt: Encoded,
        room: int,
        signatures: Sequence[Sequence[int | str]],
    ) -> int:
        alike = min(room, common([*signatures, known.signature]))
        if self.reader.cuts:
            return _whole(prompt, alike)
        return alike if alike == len(known.signature) else 0

    @property
    def _most(self) -> int:
        """Positions that fit the memory: as those that are held, else by the decoder's sizes."""
        config = self.reader.config
        most = self.max_bytes // (1 if self.reader.cuts else ENDS)
        if self.kept:
            held = self.kept[-1].cache
            return most * held.get_seq_length() // held_bytes(held)
        count = config.num_hidden_layers
        # Some decoders' layers are not of one size, and have a configuration each.
        each = getattr(config, "per_layer_config", None)
        widths = [_width(config if each is None else each[number]) for number in range(count)]
        return int(most // (2 * sum(widths) * self.reader.model.dtype.itemsize))

    def _read(self, prompt: Encoded, start: int, stop: int) -> None:
        """Positions on top of the first `start` of those that are known."""
        base = self._used if start else None
        before = () if base is None else base.passes
        passes = (*before, (start, stop))
        signature = prompt.signature[:stop]
        found = (b for b in self.kept if b.passes == passes and b.signature == signature)
        self._used = next(found, None)
        if self._used is None:
            cache = self.reader.cache() if base is None else self.reader.above(base.cache, 1, start)
            # Of the whole prompt: some models cannot say the positions of one that ends where an image opens.
            self.reader.read(self.reader.rows([prompt]), [prompt], cache, start, stop)
            self._used = Beginning(signature, passes, joined(cache))
        # Where it ended before is kept as well: the demonstrations, under an image; others have them, too.
        below = [] if base is None else [base]
        if below and self.reader.cuts:
            both = held_bytes(below[0].cache) + held_bytes(self._used.cache)
            below = below if both <= self.max_bytes else []
        self.kept = self._known = [*below, self._used]


def _whole(prompt: Encoded, length: int) -> int:
    """The length, or where the image begins that it would cut through."""
    for start, stop in prompt.spans:
        if start < length < stop:
            return start
    return length


def _width(layer: Any) -> int:
    """Numbers that a layer keeps of a position as its key, by its configuration."""
    heads = getattr(layer, "num_key_value_heads", None) or layer.num_attention_heads
    width = getattr(layer, "head_dim", None) or layer.hidden_size // layer.num_attention_heads
    return int(heads * width)
