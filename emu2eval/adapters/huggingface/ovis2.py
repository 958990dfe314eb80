"""Ovis2 (arXiv 2405.20797): what frames an image and its tiles is embedded by a table of visual words."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from transformers.models.ovis2.modeling_ovis2 import BaseModelOutputWithVisualIndicatorFeatures

from emu2eval.adapters.huggingface.reading import TransformersReader
from emu2eval.adapters.local.encoded import Encoded
from emu2eval.adapters.local.reading import Rows


class Ovis2Reader(TransformersReader):
    """Gives every pass that table's rows, also where what frames an image is read apart from it."""

    def images(
        self, rows: Rows, sequences: Sequence[Encoded], start: int, stop: int
    ) -> dict[str, Any]:
        given = super().images(rows, sequences, start, stop)
        out: Any = BaseModelOutputWithVisualIndicatorFeatures
        seen = given["mm_encoder_outputs"] or {"image": out(pooler_output=self._no_image)}
        seen["image"].visual_indicator_features = self._frames
        return {"mm_encoder_outputs": seen}

    @cached_property
    def _frames(self) -> Tensor:
        """(kinds of frame, width), as `Ovis2Model.get_image_features` computes them."""
        base = self.model.base_model
        count = base.vision_tower.num_visual_indicator_tokens
        table = base.visual_embeddings_table
        rows = torch.arange(base.visual_vocab_size - count, base.visual_vocab_size)
        found: Tensor = table(rows.to(table.weight.device))
        return found

    @cached_property
    def _no_image(self) -> Tensor:
        """(1, no tokens, width)"""
        return self._frames[None, :0]
