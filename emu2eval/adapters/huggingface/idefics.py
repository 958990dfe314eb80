"""IDEFICS (arXiv 2306.16527): layers look aside at images, each of which is one token of the prompt.

As in Flamingo, a position sees the latest image before it and no other.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from transformers.modeling_outputs import BaseModelOutputWithPooling

from emu2eval.adapters.huggingface.expansion import Expansion
from emu2eval.adapters.huggingface.features import VisionEncoder
from emu2eval.adapters.huggingface.reading import TransformersReader
from emu2eval.adapters.local.encoded import Encoded, Shown
from emu2eval.adapters.local.reading import Rows

SLOT = "<image>"
AROUND = "<fake_token_around_image>"


class IdeficsExpansion(Expansion):
    """What transformers' `IdeficsProcessor` does with a list of texts and images."""

    def _processed(self, image: Image.Image, variety: str) -> tuple[dict[str, Any], str]:
        found = self.processor.image_processor([image], **self._kwargs)
        return {"pixel_values": found}, AROUND + SLOT + AROUND

    def whole(self, text: str, images: Sequence[Image.Image]) -> list[int]:
        # Its processor takes a list in which texts and images alternate.
        parts: list[Any] = [text.split(self.placeholder)[0]]
        for image, piece in zip(images, text.split(self.placeholder)[1:], strict=True):
            parts += [image, piece]
        given = self.processor(
            text=[part for part in parts if part != ""], add_end_of_utterance_token=False
        )
        ids: list[int] = given["input_ids"][0].tolist()
        return ids

    def finish(self, text: str) -> str:
        bare = text.strip(" ").replace(AROUND * 2, AROUND)
        return f"{self.processor.tokenizer.bos_token}" + re.sub(f" *({AROUND}) *", r"\1", bare)


class IdeficsEncoder(VisionEncoder):
    """Features of an image: (latents, width), which layers look at, though it has one place only."""

    def encoding(self) -> Any:
        base = self.model.base_model

        def encode(pixel_values: Tensor, return_dict: bool = True) -> BaseModelOutputWithPooling:
            seen = base.vision_model(pixel_values=pixel_values).last_hidden_state
            if base.config.use_resampler:
                seen = base.perceiver_resampler(seen)
            return BaseModelOutputWithPooling(pooler_output=seen)

        return encode

    def rows_of(self, shown: Shown) -> int | None:
        return None


class IdeficsReader(TransformersReader):
    """Gives every pass all images of the prompts so far: none is kept with the keys and values."""

    def images(
        self, rows: Rows, sequences: Sequence[Encoded], start: int, stop: int
    ) -> dict[str, Any]:
        return self._aside(rows, sequences, stop)

    def beside(self, rows: Rows, sequences: Sequence[Encoded]) -> dict[str, Any]:
        return self._aside(rows, sequences, rows.length)

    def _aside(self, rows: Rows, sequences: Sequence[Encoded], stop: int) -> dict[str, Any]:
        """image_hidden_states: (rows, images, latents, width), zero where a row has fewer images;
        image_attention_mask: (rows, stop, images), 1 where a position sees an image."""
        latest = rows.types[:, :stop].cumsum(1)
        counts = latest[:, -1].tolist()
        seen = [
            [self.encoder.held(shown).pooled for shown in one.shown[:count]]
            for one, count in zip(sequences, counts, strict=True)
        ]
        most = max(1, *counts)
        known = next((pooled for row in seen for pooled in row), None)
        width = self.model.config.vision_config.embed_dim
        blank = torch.zeros(1, width) if known is None else torch.zeros_like(known)
        blank = blank.to(self.model.device, self.model.dtype)
        hidden = torch.stack([torch.stack([*row, *[blank] * (most - len(row))]) for row in seen])
        mask = functional.one_hot(latest, most + 1)[..., 1:]
        return {"image_hidden_states": hidden, "image_attention_mask": mask}
