"""Beams move within memory that is set aside, and hold what transformers' own cache holds."""

from __future__ import annotations

import torch
from transformers import DynamicCache, LlamaConfig

from emu2eval.adapters.local.cache import above, new_cache

HEADS, WIDTH, LAYERS, BEAMS = 2, 4, 3, 5
CONFIG = LlamaConfig(
    hidden_size=HEADS * WIDTH, num_attention_heads=HEADS, num_hidden_layers=LAYERS, vocab_size=10
)


def test_beams_move_between_memories_that_all_layers_share() -> None:
    random = torch.Generator().manual_seed(0)

    def read(cache: DynamicCache, rows: int, layer: int, *others: DynamicCache) -> None:
        keys, values = (torch.randn(rows, HEADS, 1, WIDTH, generator=random) for _ in range(2))
        for each in (cache, *others):
            each.update(keys, values, layer)

    prompt = new_cache(CONFIG)
    for layer in range(LAYERS):
        read(prompt, 1, layer)
    ours, theirs = above(prompt, BEAMS, 1), DynamicCache()
    made: list[set[int]] = []
    for _ in range(30):
        order = torch.randint(BEAMS, (BEAMS,), generator=random)
        ours.reorder_cache(order)  # type: ignore[arg-type]
        theirs.reorder_cache(order)  # type: ignore[arg-type]
        for layer in range(LAYERS):
            read(ours, BEAMS, layer, theirs)
        for own, plain in zip(ours.layers, theirs.layers, strict=True):
            assert torch.equal(own.keys, plain.keys) and torch.equal(own.values, plain.values)
        made.append({layer.keys.data_ptr() for layer in ours.layers})
    # Memory for eight more tokens at a time: in between there are one piece a layer and one to move into.
    assert len(set.union(*made[24:])) == LAYERS + 1
