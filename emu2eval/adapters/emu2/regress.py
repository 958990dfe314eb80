"""Visual embeddings regressed one by one: what Emu2 says when an image is wanted."""

from __future__ import annotations

import torch
from torch import Tensor

from emu2eval.adapters.emu2.cache import SegmentedCache
from emu2eval.adapters.emu2.model import Emu2
from emu2eval.adapters.emu2.prefix import Prefilled


def regress(model: Emu2, prompts: Prefilled, count: int) -> Tensor:
    """(prompts, count, width) visual embeddings after prompts that end in [IMG].

    Each is the projected last hidden state and is fed back in the place of the next visual token
    (arXiv 2312.13286, section 2): count - 1 steps on the cache, where the authors' released code reads
    the whole prompt again for each.
    """
    cache = SegmentedCache(prompts.segments)
    hidden = prompts.hidden
    embeddings = [model.down(hidden)]
    for _ in range(count - 1):
        embeds = model.up(embeddings[-1])[:, None]
        valid = torch.ones(embeds.shape[:2], dtype=torch.bool, device=embeds.device)
        hidden = model.read(embeds, valid, cache)[:, -1]
        embeddings.append(model.down(hidden))
    return torch.stack(embeddings, 1)
