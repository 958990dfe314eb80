"""Prompts into keys and values; a beginning that prompts share is computed once and kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from emu2eval.adapters.beginnings import CACHE_BYTES, Beginnings
from emu2eval.adapters.emu2.cache import Segment, SegmentedCache
from emu2eval.adapters.emu2.model import Emu2, left_pad
from emu2eval.adapters.encoded import Encoded


@dataclass(frozen=True, slots=True)
class Prefilled:
    """A batch of prompts that were read. hidden: (rows, hidden), the last position of each."""

    segments: tuple[Segment, ...]
    hidden: Tensor


def prefill(
    model: Emu2,
    prompts: Sequence[Encoded],
    features: Sequence[Tensor],
    prefixes: PrefixCache | None = None,
) -> Prefilled:
    """Reads a batch of prompts, left-padded, on top of what `prefixes` knows of their beginning."""
    shared = prefixes.shared(model, prompts, features) if prefixes is not None else None
    start = shared.length if shared is not None else 0
    rows = [_embed(model, p, f, start, len(p)) for p, f in zip(prompts, features, strict=True)]
    embeds, valid = left_pad(rows)
    cache = SegmentedCache([shared] if shared is not None else [])
    hidden = model.read(embeds, valid, cache)[:, -1]
    return Prefilled(cache.close(), hidden)


class PrefixCache:
    """Remembers the keys and values of one beginning, the one that the latest prompts share.

    They are those a pass over the whole prompt would give, up to rounding.
    """

    def __init__(self, max_bytes: int = CACHE_BYTES):
        self.max_bytes = max_bytes
        self._beginnings = Beginnings()
        self._segment: Segment | None = None

    def shared(
        self, model: Emu2, prompts: Sequence[Encoded], features: Sequence[Tensor]
    ) -> Segment | None:
        """The segment that all prompts begin with; None where they share too little."""
        most = self.max_bytes // _bytes_a_position(model)
        usable, wanted = self._beginnings.shared(prompts, most)
        if wanted > usable:
            self._extend(model, prompts[0], features[0], usable, wanted)
        if self._segment is None or not wanted:
            return None
        return self._segment.head(wanted)

    def _extend(
        self, model: Emu2, prompt: Encoded, features: Tensor, start: int, stop: int
    ) -> None:
        kept = [self._segment.head(start)] if self._segment is not None and start else []
        cache = SegmentedCache(kept)
        embeds = _embed(model, prompt, features, start, stop)[None]
        valid = torch.ones(embeds.shape[:2], dtype=torch.bool, device=embeds.device)
        model.read(embeds, valid, cache)
        grown = cache.close()
        self._segment = grown[0].then(grown[1]) if kept else grown[0]
        self._beginnings.known = prompt.signature[:stop]


def _embed(model: Emu2, prompt: Encoded, features: Tensor, start: int, stop: int) -> Tensor:
    """Embeddings of positions start to stop, (stop - start, hidden)."""
    first, last = sum(prompt.slots[:start]), sum(prompt.slots[:stop])
    ids = torch.tensor(prompt.ids[start:stop], dtype=torch.long)
    slots = torch.tensor(prompt.slots[start:stop], dtype=torch.bool)
    return model.embed(ids, slots, features[first:last])


def _bytes_a_position(model: Emu2) -> int:
    decoder = model.config.decoder
    return 2 * decoder.num_hidden_layers * decoder.hidden_size * model.dtype.itemsize
