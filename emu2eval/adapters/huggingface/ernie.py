"""ERNIE 4.5 VL: images, and what frames them, have experts of their own."""

from __future__ import annotations

import torch
from torch import Tensor

from emu2eval.adapters.huggingface.reading import TransformersReader


class ErnieReader(TransformersReader):
    """Says of every position whether it is an image's or frames one, as `Ernie4_5_VLMoeProcessor` does."""

    def _types(self, ids: Tensor) -> dict[str, Tensor]:
        config = self.model.config
        frame = torch.tensor([config.image_start_token_id, config.image_end_token_id])
        types = super()._types(ids)
        framed = torch.isin(ids, frame.to(ids.device)).long()
        return {**types, "moe_mm_token_type_ids": types["mm_token_type_ids"] | framed}
