"""KOSMOS-2."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    CLIPImageProcessorPil,
    Kosmos2Config,
    Kosmos2ForConditionalGeneration,
    Kosmos2Processor,
)

from emu2eval.adapters.huggingface.adapter import HuggingFaceAdapter
from emu2eval.media import images
from emu2eval.types import Prompt

from .common import VISION, Tiny, tokenizer


def kosmos2() -> tuple[Any, Any]:
    """One image for transformers, several for the model; positions begin behind padding's id."""
    words = tokenizer(["<unk>", *[f"<unused{i}>" for i in range(8)]], bos=True, unk_token="<unk>")
    images = CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    processor = Kosmos2Processor(images, words, 4)
    config = Kosmos2Config(
        vision_config={**VISION, "image_size": 32},
        text_config={
            "vocab_size": len(words),
            "embed_dim": 32,
            "layers": 2,
            "ffn_dim": 64,
            "attention_heads": 4,
            "pad_token_id": 0,
            "eos_token_id": 1,
            "bos_token_id": 2,
        },
        latent_query_num=64,
    )
    return Kosmos2ForConditionalGeneration(config), processor


def kosmos2_inputs(adapter: HuggingFaceAdapter, asked: Prompt) -> dict[str, Any]:
    """Its processor takes one image, before all text; for more, its model is given them itself."""
    seen = [images.load(one) for one in asked.images()]
    encoded = adapter.opened.form.encode(asked)
    given = adapter.opened.processor(
        text="".join(part for part in asked.flat() if isinstance(part, str)),
        images=seen[0],
        return_tensors="pt",
    )
    if len(seen) == 1:
        places = given["image_embeds_position_mask"][0].bool().tolist()
        assert places == list(encoded.slots)
        for i, own, place in zip(encoded.ids, given["input_ids"][0].tolist(), places, strict=True):
            assert i == own or place
    arrays = adapter.opened.processor.image_processor(seen, return_tensors="pt")
    return {
        "input_ids": torch.tensor([encoded.ids]),
        "image_embeds_position_mask": torch.tensor([encoded.slots]),
        "pixel_values": arrays["pixel_values"],
    }


def kosmos2_logits(model: Any, inputs: dict[str, Any], reply: tuple[int, ...]) -> torch.Tensor:
    ids, mask = inputs["input_ids"], inputs["image_embeds_position_mask"]
    longer = {
        **inputs,
        "input_ids": torch.cat([ids, torch.tensor([reply])], 1),
        "image_embeds_position_mask": torch.cat([mask, torch.zeros(1, len(reply)).bool()], 1),
    }
    with torch.no_grad():
        logits: torch.Tensor = model(**longer).logits[0]
    return logits[ids.shape[1] - 1 : -1]


FAMILIES = {
    "kosmos2": Tiny(
        kosmos2,
        "kosmos-2",
        layout="plain",
        inputs=kosmos2_inputs,
        logits=kosmos2_logits,
        generates=False,
    ),
}
