"""KOSMOS-2 (arXiv 2306.14824): images in place of tokens, any number of them.

transformers' processor and `generate` take one image, at the start of a text, and its model any number.
They are laid out and embedded here, each as the processor writes its one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from transformers import DynamicCache
from transformers.modeling_outputs import BaseModelOutputWithPooling

from emu2eval.adapters.huggingface.expansion import Expansion
from emu2eval.adapters.huggingface.features import VisionEncoder
from emu2eval.adapters.huggingface.reading import Processor, TransformersReader
from emu2eval.adapters.local.encoded import Encoded
from emu2eval.adapters.local.head import exact_scores
from emu2eval.adapters.local.reading import Rows

SLOT = "</doc>"
"""Stands at an image's places. No prompt holds it otherwise, and it is never embedded."""
OPEN, CLOSE = "<image>", "</image>"


class Kosmos2Expansion(Expansion):
    """What transformers' `Kosmos2Processor` writes for its one image, for each."""

    several: ClassVar[bool] = False

    def whole(self, text: str, images: Sequence[Image.Image]) -> list[int]:
        given = self.processor(
            text=text.replace(self.placeholder, ""), images=images[0], return_tensors="pt"
        )
        # It numbers an image's places.
        slot = self.processor.tokenizer.convert_tokens_to_ids(SLOT)
        places = given["image_embeds_position_mask"][0].bool()
        ids: list[int] = given["input_ids"][0].masked_fill(places, slot).tolist()
        return ids

    def _processed(self, image: Image.Image, variety: str) -> tuple[dict[str, Any], str]:
        found = self.processor.image_processor([image], **self._kwargs)
        places = int(self.processor.num_image_tokens)
        return dict(found), OPEN + SLOT * places + CLOSE

    def finish(self, text: str) -> str:
        spaced = re.sub(f"{CLOSE}(?=[^ ])", f"{CLOSE} ", text.strip())
        return f"{self.processor.tokenizer.bos_token}{spaced}"


class Kosmos2Encoder(VisionEncoder):
    """Features as `Kosmos2Model.get_image_features` computes them."""

    def encoding(self) -> Any:
        model = self.model

        def encode(pixel_values: Tensor, return_dict: bool = True) -> BaseModelOutputWithPooling:
            seen = model.vision_model(pixel_values=pixel_values).last_hidden_state
            seen = functional.normalize(model.vision_model.model.post_layernorm(seen), dim=-1)
            return BaseModelOutputWithPooling(pooler_output=model.image_to_text_projection(seen)[0])

        return encode


class Kosmos2Reader(TransformersReader):
    """Embeds a prompt itself: the model forgets images that stand behind what is in its cache."""

    @cached_property
    def pads(self) -> bool:
        """While it answers, the model counts padding as positions."""
        return False

    @property
    def speaker(self) -> Any:
        return self.model.text_model

    def read(
        self,
        rows: Rows,
        sequences: Sequence[Encoded],
        cache: DynamicCache,
        start: int,
        stop: int,
        keep: int = 1,
    ) -> Tensor:
        embedded = self.model.get_input_embeddings()(rows.ids[:, start:stop])
        shown = self.between(rows, sequences, start, stop)
        if shown:
            embedded[rows.types[:, start:stop].bool()] = torch.cat(
                [self.encoder.held(one).pooled for one in shown]
            )
        # They begin behind the id of padding, as in fairseq.
        positions = rows.mask[:, :stop].cumsum(1) + self.model.config.text_config.pad_token_id
        with exact_scores(self.speaker, keep):
            logits: Tensor = self.speaker(
                inputs_embeds=embedded,
                attention_mask=rows.mask[:, :stop],
                position_ids=positions[:, start:].contiguous(),  # it looks at them as one row
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=keep,
            ).logits
        return logits[:, -keep:]

    def continued(
        self,
        rows: Rows,
        sequences: Sequence[Encoded],
        cache: DynamicCache,
        config: Any,
        processors: list[Processor],
    ) -> Tensor:
        found: Tensor = self.speaker.generate(
            input_ids=rows.ids,
            attention_mask=rows.mask,
            past_key_values=cache,
            generation_config=config,
            logits_processor=processors,
        )
        return found
