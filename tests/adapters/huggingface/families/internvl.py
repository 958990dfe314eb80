"""InternVL and its kin."""

from __future__ import annotations

from typing import Any

from transformers import (
    GotOcr2ImageProcessorPil,
    InternVLConfig,
    InternVLForConditionalGeneration,
)

from .common import CHATML, TEXT, TURNS, VISION, Parts, Tiny, tokenizer


def internvl() -> tuple[Any, Any]:
    """Cuts images into tiles unless it is told not to."""
    words = tokenizer(
        ["<img>", "</img>", "<IMG_CONTEXT>", "<video>", *TURNS],
        start_image_token="<img>",
        end_image_token="</img>",
        context_image_token="<IMG_CONTEXT>",
        video_token="<video>",
    )
    words.chat_template = CHATML.replace("IMAGE", "<IMG_CONTEXT>\n")
    config = InternVLConfig(
        vision_config={**VISION, "image_size": 32, "model_type": "internvl_vision"},
        text_config={**TEXT, "model_type": "qwen2", "vocab_size": len(words)},
        image_token_id=words.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
        tie_word_embeddings=False,
    )
    images = GotOcr2ImageProcessorPil(
        size={"height": 32, "width": 32}, crop_to_patches=True, min_patches=1, max_patches=4
    )
    return InternVLForConditionalGeneration(config), Parts(
        images, words, "InternVLProcessor", image_seq_length=4
    )


FAMILIES = {
    "internvl": Tiny(internvl),
}
