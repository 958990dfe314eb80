"""Emu2 as a reader of prompts: embeddings in, texts by the authors' search or visual embeddings out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from emu2eval.adapters.emu2.decoding import Advance, beam_search, greedy
from emu2eval.adapters.emu2.features import TowerEncoder
from emu2eval.adapters.emu2.model import Emu2
from emu2eval.adapters.emu2.steps import Steps
from emu2eval.adapters.emu2.tokenizer import EOS
from emu2eval.adapters.local.encoded import Encoded
from emu2eval.adapters.local.finite import check_values
from emu2eval.adapters.local.reading import Reader, Rows
from emu2eval.adapters.local.sampling import Draws
from emu2eval.adapters.local.search import Found, Search


class Emu2Reader(Reader[TowerEncoder]):
    """pad: any id, as padding is never attended to. graphs: by `Steps`, which a GPU records."""

    model: Emu2

    def __init__(self, model: Emu2, encoder: TowerEncoder, pad: int = EOS, graphs: bool = False):
        super().__init__(model, encoder, pad, segments=True)
        self.graphs = graphs

    @property
    def config(self) -> Any:
        return self.model.decoder.lm.config

    def hidden(
        self,
        rows: Rows,
        sequences: Sequence[Encoded],
        cache: DynamicCache,
        start: int,
        stop: int,
    ) -> Tensor:
        """Adds the keys and values of those positions; their last hidden states, (rows, new, hidden)."""
        shown = self.between(rows, sequences, start, stop)
        features = torch.cat([self.encoder.held(one).pooled for one in shown]) if shown else None
        slots = rows.types[:, start:stop].bool()
        embeds = self.model.embed(rows.ids[:, start:stop], slots, features)
        return self.model.read(embeds, rows.mask[:, :stop] if rows.padded else None, cache)

    def read(
        self,
        rows: Rows,
        sequences: Sequence[Encoded],
        cache: DynamicCache,
        start: int,
        stop: int,
        keep: int = 1,
    ) -> Tensor:
        return self.model.logits(self.hidden(rows, sequences, cache, start, stop)[:, -keep:])

    def generate(
        self,
        rows: Rows,
        sequences: Sequence[Encoded],
        cache: DynamicCache,
        first: Tensor,
        search: Search,
        keys: Sequence[str] = (),
    ) -> list[Found]:
        if self.graphs and search.max_new_tokens > 1:
            most = search.max_new_tokens - 1
            advance: Advance = Steps(self.model, cache, rows, search.beams, most)
        else:
            advance = self._growing(rows, cache, search.beams)

        if search.sampling is not None:
            draws = Draws(search.sampling, keys, [EOS])

            def drawn(scores: Tensor) -> Tensor:
                return torch.tensor(draws(scores), device=scores.device)

            ids = greedy(first, advance, search, drawn)
        else:
            ids = (greedy if search.beams == 1 else beam_search)(first, advance, search)
        return [Found.cut(row, [EOS]) for row in ids]

    def _growing(self, rows: Rows, cache: DynamicCache, beams: int) -> Advance:
        """Steps over a cache that grows, in which beams move."""
        cache = self.spread(cache, beams) if beams > 1 else cache
        mask = rows.mask.repeat_interleave(beams, 0) if rows.padded else None

        def advance(tokens: Tensor, parents: Tensor) -> Tensor:
            nonlocal mask
            if beams > 1:
                cache.reorder_cache(parents)  # type: ignore[arg-type]
            # A prompt's beams are padded alike, so that the mask stays as they move.
            mask = _longer(mask)
            embeds = self.model.embed(tokens[:, None])
            hidden = self.model.read(embeds, mask, cache)
            return self.model.logits(hidden[:, -1])

        return advance

    def regress(self, rows: Rows, cache: DynamicCache, hidden: Tensor, count: int) -> Tensor:
        """(rows, count, width) visual embeddings after prompts that end in [IMG].

        hidden: (rows, hidden), the last states of the prompts that the cache holds. Each embedding is the
        projected last hidden state and is fed back in the place of the next visual token (arXiv 2312.13286,
        section 2): count - 1 steps on the cache, where the authors' released code reads the whole prompt
        again for each.
        """
        mask = rows.mask if rows.padded else None
        embeddings = [self.model.down(hidden)]
        for _ in range(count - 1):
            mask = _longer(mask)
            embeds = self.model.up(embeddings[-1])[:, None]
            states = self.model.read(embeds, mask, cache)
            embeddings.append(self.model.down(states[:, -1]))
        found = torch.stack(embeddings, 1)
        check_values(found, "the model's visual embeddings")
        return found


def _longer(mask: Tensor | None) -> Tensor | None:
    """With one more place that is seen; None where there is no padding."""
    return None if mask is None else torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
