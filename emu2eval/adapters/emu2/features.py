"""Picture features, computed once per digest within a run."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor

from emu2eval import pictures
from emu2eval.adapters.emu2.model import Emu2
from emu2eval.adapters.emu2.prompt import Encoded, Shown
from emu2eval.adapters.emu2.vision import pixels

CACHE_BYTES = 1 << 30
"""1 GiB holds about 4,700 pictures of 64 tokens in bf16."""


class FeatureCache:
    """Pooled features by picture and token count, on the CPU; the least recently used go first."""

    def __init__(self, max_bytes: int = CACHE_BYTES):
        self.max_bytes = max_bytes
        self.nbytes = 0
        self._kept: OrderedDict[tuple[str, int], Tensor] = OrderedDict()

    def features(self, model: Emu2, prompts: Sequence[Encoded]) -> list[Tensor]:
        """For each prompt the features of its slots, (slots, width), in reading order."""
        wanted = {_key(shown): shown for prompt in prompts for shown in prompt.shown}
        found = self._encode(model, wanted)
        width = model.config.vision.width
        return [
            torch.cat([found[_key(shown)] for shown in prompt.shown])
            if prompt.shown
            else torch.zeros(0, width, dtype=model.dtype)
            for prompt in prompts
        ]

    def _encode(
        self, model: Emu2, wanted: dict[tuple[str, int], Shown]
    ) -> dict[tuple[str, int], Tensor]:
        found = {}
        size = model.config.vision.image_size
        for key, shown in wanted.items():
            if key in self._kept:
                self._kept.move_to_end(key)
                found[key] = self._kept[key]
                continue
            # One at a time: a picture is a thousand positions to the encoder, so that a batch would
            # gain nothing, and its features would depend on the others by rounding.
            given = pixels(pictures.load(shown.picture), size)[None]
            found[key] = model.encode_pictures(given, shown.tokens)[0].cpu()
            self._keep(key, found[key])
        return found

    def _keep(self, key: tuple[str, int], features: Tensor) -> None:
        self._kept[key] = features
        self.nbytes += features.nbytes
        while self.nbytes > self.max_bytes:
            self.nbytes -= self._kept.popitem(last=False)[1].nbytes


def _key(shown: Shown) -> tuple[str, int]:
    return pictures.digest(shown.picture), shown.tokens
