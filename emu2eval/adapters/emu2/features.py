"""Image features, computed once per digest within a run."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from emu2eval.adapters.bounded import Bounded
from emu2eval.adapters.emu2.model import Emu2
from emu2eval.adapters.emu2.vision import pixels
from emu2eval.adapters.encoded import Encoded, Shown
from emu2eval.media import images

CACHE_BYTES = 1 << 30
"""1 GiB holds about 4,700 images of 64 tokens in bf16."""


class FeatureCache:
    """Pooled features by image and token count, on the CPU; the least recently used go first."""

    def __init__(self, max_bytes: int = CACHE_BYTES):
        self.kept: Bounded[Tensor] = Bounded(max_bytes)

    def features(self, model: Emu2, prompts: Sequence[Encoded]) -> list[Tensor]:
        """For each prompt the features of its slots, (slots, width), in reading order."""
        wanted = {shown.key: shown for prompt in prompts for shown in prompt.shown}
        found = {key: self._encode(model, key, shown) for key, shown in wanted.items()}
        width = model.config.vision.width
        return [
            torch.cat([found[shown.key] for shown in prompt.shown])
            if prompt.shown
            else torch.zeros(0, width, dtype=model.dtype)
            for prompt in prompts
        ]

    def _encode(self, model: Emu2, key: str, shown: Shown) -> Tensor:
        kept = self.kept.get(key)
        if kept is not None:
            return kept
        # One at a time: an image is a thousand positions to the encoder, so that a batch would gain
        # nothing, and its features would depend on the others by rounding.
        given = pixels(images.load(shown.image), model.config.vision.image_size)[None]
        features = model.encode_images(given, shown.tokens)[0].cpu()
        self.kept.put(key, features)
        return features
