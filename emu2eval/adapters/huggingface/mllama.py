"""Llama 3.2 Vision: layers look aside at images, each of which is one token of the prompt.

A position sees the latest image before it, or all of several that stand side by side. Positions before the
first image see all images, as transformers has it, so what a prompt begins with depends on what it ends with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor
from transformers import DynamicCache
from transformers.modeling_outputs import BaseModelOutputWithPooling

from emu2eval.adapters.huggingface.expansion import Expansion
from emu2eval.adapters.huggingface.features import VisionEncoder, VisionFeatures
from emu2eval.adapters.huggingface.reading import TransformersReader
from emu2eval.adapters.local.encoded import Encoded, Shown
from emu2eval.adapters.local.prepared import Arrays
from emu2eval.adapters.local.reading import Rows

SLOT = "<|image|>"
TILES = "num_tiles"
"""How many tiles of an image hold something; the others fill it up to the most that it may have."""


class MllamaExpansion(Expansion):
    """What transformers' `MllamaProcessor` does: one token an image, <bos> behind those in front."""

    def _processed(self, image: Image.Image, variety: str) -> tuple[dict[str, Any], str]:
        found, text = super()._processed(image, variety)
        return {**found, TILES: int(found[TILES][0][0])}, text

    def finish(self, text: str) -> str:
        first = str(self.processor.bos_token)
        if first in text:
            return text
        bare = text
        while bare.startswith(self.placeholder):
            bare = bare[len(self.placeholder) :]
        return f"{text[: len(text) - len(bare)]}{first}{bare}"


class MllamaEncoder(VisionEncoder):
    """Features of an image: (tiles * patches, width), which layers look at, though it has one place only."""

    def encoding(self) -> Any:
        base = self.model.base_model

        def encode(
            pixel_values: Tensor,
            aspect_ratio_ids: Tensor,
            aspect_ratio_mask: Tensor,
            return_dict: bool = True,
        ) -> BaseModelOutputWithPooling:
            seen = base.vision_model(
                pixel_values=pixel_values,
                aspect_ratio_ids=aspect_ratio_ids,
                aspect_ratio_mask=aspect_ratio_mask,
            ).last_hidden_state
            return BaseModelOutputWithPooling(pooler_output=base.multi_modal_projector(seen))

        return encode

    def encode(self, arrays: Arrays, shown: Shown) -> VisionFeatures:
        tiles: Mapping[str, Tensor] = {TILES: torch.tensor([arrays.values[TILES]])}
        return replace(super().encode(arrays, shown), grids=tiles)

    def rows_of(self, shown: Shown) -> int | None:
        return None


class MllamaReader(TransformersReader):
    """Reads a prompt whole. Its images are in the cache of the layers that look at them, and in no other."""

    # Positions before the first image see all of a row's, blank ones too: batches are of as many each.
    pads: ClassVar[bool] = False

    @cached_property
    def croppable(self) -> bool:
        return False

    @cached_property
    def apart(self) -> bool:
        return False

    def above(self, cache: DynamicCache, rows: int, length: int) -> DynamicCache:
        # The whole cache: in some layers its length is that of the images.
        own = deepcopy(cache)
        own.batch_repeat_interleave(rows)
        return own

    def images(
        self, rows: Rows, sequences: Sequence[Encoded], start: int, stop: int
    ) -> dict[str, Any]:
        given = self._masked(rows, sequences, stop)
        if given and not start:
            seen = [
                torch.cat([self.encoder.held(shown).pooled for shown in one.shown])
                for one in sequences
            ]
            given["cross_attention_states"] = torch.stack(seen)
        return given

    def beside(self, rows: Rows, sequences: Sequence[Encoded]) -> dict[str, Any]:
        return self._masked(rows, sequences, rows.length)

    def _masked(self, rows: Rows, sequences: Sequence[Encoded], stop: int) -> dict[str, Any]:
        """cross_attention_mask: (rows, stop, images, tiles), 1 where a position sees a tile."""
        most = len(sequences[0].shown)
        if not most:
            return {}
        tiles = int(self.model.config.vision_config.max_num_tiles)
        mask = torch.zeros(len(sequences), stop, most, tiles, dtype=torch.long)
        for row, one in enumerate(sequences):
            places = [i for i, slot in enumerate(one.slots) if slot]
            for number, (place, end) in enumerate(zip(places, _ends(places, stop), strict=True)):
                held = self.encoder.held(one.shown[number])
                mask[row, place:end, number, : int(held.grids[TILES])] = 1
        return {"cross_attention_mask": mask.to(self.device)}


def _ends(places: Sequence[int], length: int) -> list[int]:
    """Up to where each image is seen: the next one, or where the images that follow at once are seen to."""
    ends = [*places[1:], length]
    for i in reversed(range(len(places) - 1)):
        if places[i + 1] == places[i] + 1:
            ends[i] = ends[i + 1]
    return ends
