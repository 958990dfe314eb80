"""Gemma's families."""

from __future__ import annotations

from typing import Any

from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessorPil,
    Gemma3Processor,
)

from .common import GEMMA, TEXT, VISION, Tiny, tokenizer


def gemma3() -> tuple[Any, Any]:
    """A sliding window shorter than the prompt; an image's positions see one another."""
    words = tokenizer(
        ["<start_of_image>", "<end_of_image>", "<image_soft_token>", "<start_of_turn>",
         "<end_of_turn>"],
        bos=True,
        boi_token="<start_of_image>",
        eoi_token="<end_of_image>",
        image_token="<image_soft_token>",
    )  # fmt: skip
    images = Gemma3ImageProcessorPil(size={"height": 32, "width": 32})
    processor = Gemma3Processor(images, words, chat_template=GEMMA, image_seq_length=4)
    seen = words.convert_tokens_to_ids
    config = Gemma3Config(
        vision_config={**VISION, "image_size": 32, "model_type": "siglip_vision_model"},
        text_config={
            **TEXT,
            "model_type": "gemma3_text",
            "vocab_size": len(words),
            "head_dim": 8,
            "sliding_window": 48,
            "layer_types": ["sliding_attention", "full_attention"],
        },
        mm_tokens_per_image=4,
        tie_word_embeddings=False,
        image_token_index=seen("<image_soft_token>"),
        boi_token_index=seen("<start_of_image>"),
        eoi_token_index=seen("<end_of_image>"),
    )
    return Gemma3ForConditionalGeneration(config), processor


FAMILIES = {
    "gemma3": Tiny(gemma3),
}
