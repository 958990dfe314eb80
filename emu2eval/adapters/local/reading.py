"""Prompts into keys and values: left-padded batches on top of a beginning that they share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import DynamicCache

from emu2eval.adapters.local.cache import above, new_cache, widened
from emu2eval.adapters.local.encoded import Encoded, Shown
from emu2eval.adapters.local.features import ImageEncoder
from emu2eval.adapters.local.layers import Held, kind_of, layers_of
from emu2eval.adapters.local.search import Found, Search

E = TypeVar("E", bound=ImageEncoder[Any])


@dataclass(frozen=True)
class Rows:
    """A batch of sequences. ids, mask, types: (rows, length); types is 1 where an image stands.

    positions: what the model makes of them, (rows, length) or with a dimension in front. seen: on the CPU,
    (rows, length + 1), how many slots of images stand before each place.
    """

    ids: Tensor
    mask: Tensor
    types: Tensor
    positions: Tensor | None
    padded: bool
    seen: npt.NDArray[np.int64]

    @property
    def length(self) -> int:
        return self.ids.shape[1]


class Reader(ABC, Generic[E]):
    """Runs a model over some positions of a batch, and on from there. encoder: holds the batch's images.

    segments: its attention takes what rows share apart from what they do not.
    """

    def __init__(self, model: Any, encoder: E, pad: int, segments: bool):
        self.model = model
        self.encoder = encoder
        self.pad = pad
        self.segments = segments and self.croppable and self.apart

    @abstractmethod
    def read(
        self,
        rows: Rows,
        sequences: Sequence[Encoded],
        cache: DynamicCache,
        start: int,
        stop: int,
        keep: int = 1,
    ) -> Tensor:
        """Adds the keys and values of those positions; the logits of the last `keep`, (rows, keep, words)."""

    @abstractmethod
    def generate(
        self,
        rows: Rows,
        sequences: Sequence[Encoded],
        cache: DynamicCache,
        first: Tensor,
        search: Search,
        keys: Sequence[str] = (),
    ) -> list[Found]:
        """Answers to prompts of which all positions are in the cache. Raises NotFinite.

        first: (rows, words), the logits of the last ones. keys: one a row, by which answers are drawn.
        """

    @torch.inference_mode()
    def takes_segments(self) -> bool:
        """Whether the decoder asks its cache for nothing but what its attention takes; MLA makes keys of it.

        Tried, not told by names: two rows of two positions go on from two that they share.
        """
        one = Encoded((self.pad,) * 4, (False,) * 4)
        known = self.cache()
        self.read(self.rows([one]), [one], known, 0, 2)
        try:
            self.read(self.rows([one] * 2), [one] * 2, above(known, 2, 2, self.slides), 2, 4)
        except Exception:
            # Whatever a model's code says of a tuple where it wants a tensor.
            return False
        return True

    @property
    @abstractmethod
    def config(self) -> Any:
        """transformers' configuration of the decoder."""

    @property
    def device(self) -> torch.device:
        """Where ids go."""
        device: torch.device = self.model.device
        return device

    @cached_property
    def pads(self) -> bool:
        """Whether rows of a batch may be padded; if not, prompts of one length are asked together."""
        return True

    @cached_property
    def croppable(self) -> bool:
        """Whether a beginning is read alike whatever stands behind it, so that it can be kept."""
        return not self.stretches

    @cached_property
    def stretches(self) -> bool:
        """Whether all positions turn otherwise in a longer pass (LongRoPE, arXiv 2402.13753; dynamic NTK)."""
        rope = getattr(self.config, "rope_parameters", None) or {}
        kinds = {
            rope.get("rope_type"),
            *(p.get("rope_type") for p in rope.values() if isinstance(p, dict)),
        }
        return bool(kinds & {"longrope", "dynamic"})

    @cached_property
    def kinds(self) -> tuple[Held, ...]:
        """What the layers of its cache hold. Raises ModelError for kinds that are not known here."""
        return tuple(map(kind_of, layers_of(self.config)))

    @cached_property
    def cuts(self) -> bool:
        """Whether a beginning can be cut from a longer one; else its end is kept as it was."""
        return all(kind.cuts for kind in self.kinds)

    @cached_property
    def stateful(self) -> bool:
        """Whether padding before a row leaves a trace, as in a state that all positions run through."""
        return not all(kind.pads for kind in self.kinds)

    @cached_property
    def apart(self) -> bool:
        """Whether each row of a batch can be read on its own."""
        return all(kind.apart for kind in self.kinds)

    @cached_property
    def slides(self) -> bool:
        """Whether a layer sees a window of the latest positions, padding among them counted."""
        return any(getattr(layer, "is_sliding", False) for layer in layers_of(self.config))

    @cached_property
    def offloaded(self) -> bool:
        """Whether weights are copied to their device for every pass, so that passes are expensive."""
        return any(weight.is_meta for weight in self.model.parameters())

    def cache(self) -> DynamicCache:
        """Empty."""
        return new_cache(self.config)

    def above(self, cache: DynamicCache, rows: int, length: int) -> DynamicCache:
        """A cache for so many rows on top of the first `length` positions of a cache of one row.

        Where a beginning cannot be cut, `length` is all that the cache holds.
        """
        if self.segments:
            return above(cache, rows, length, self.slides)
        return widened(cache, rows, length)

    def spread(self, cache: DynamicCache, beams: int) -> DynamicCache:
        """The cache for so many beams of each of its rows."""
        return self.above(cache, beams, cache.get_seq_length())

    def rows(self, sequences: Sequence[Encoded], shared: int = 0, right: bool = False) -> Rows:
        """The sequences as a batch: their first `shared` places, padding, the rest.

        right: pad there instead, for sequences whose ends alone differ.
        """
        length = max(map(len, sequences))
        ids = np.full((len(sequences), length), self.pad)
        mask, types = np.zeros_like(ids), np.zeros_like(ids)
        for row, one in enumerate(sequences):
            at = len(one) if right else shared
            end = at + length - len(one)
            for table, values in ((ids, one.ids), (types, one.slots), (mask, (1,) * len(one))):
                table[row, :at], table[row, end:] = values[:at], values[at:]
        i, m, t = (torch.from_numpy(part).to(self.device) for part in (ids, mask, types))
        padded = any(len(one) < length for one in sequences)
        seen = np.pad(types.cumsum(1), ((0, 0), (1, 0)))
        return Rows(i, m, t, self.positions((i, m), sequences), padded, seen)

    def positions(self, given: Sequence[Tensor], sequences: Sequence[Encoded]) -> Tensor | None:
        """Position ids of (ids, mask); None = the model finds them itself."""
        return None

    def between(
        self, rows: Rows, sequences: Sequence[Encoded], start: int, stop: int
    ) -> list[Shown]:
        """The images whose slots lie there, row by row. `start` and `stop` never cut through an image."""
        found: list[Shown] = []
        for row, one in enumerate(sequences if any(one.shown for one in sequences) else ()):
            # Slots are counted, for padding moves them: the images before, then those within.
            before, after = rows.seen[row, start], rows.seen[row, stop]
            first = 0
            for shown in one.shown:
                if before <= first < after:
                    found.append(shown)
                first += shown.tokens
        return found
