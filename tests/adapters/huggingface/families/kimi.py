"""A tiny Kimi-K2.5: latent attention, and images that torchvision prepares."""

from __future__ import annotations

from typing import Any

from .common import CHATML, TEXT, TURNS, Tiny, tokenizer
from .hybrid import MLA


def kimi_k25() -> tuple[Any, Any]:
    from transformers import (
        Kimi_K25Config,
        Kimi_K25ForConditionalGeneration,
        Kimi_K25ImageProcessor,
        Kimi_K25Processor,
        Kimi_K25VideoProcessor,
    )

    words = tokenizer(
        ["<|media_pad|>", "<|kimi_k25_video_placeholder|>", "<|media_begin|>", "<|media_content|>",
         "<|media_end|>", *TURNS]
    )  # fmt: skip
    template = CHATML.replace(
        "IMAGE", "<|media_begin|>image<|media_content|><|media_pad|><|media_end|>"
    )
    seen = words.convert_tokens_to_ids
    config = Kimi_K25Config(
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "patch_size": 8,
            "pos_emb_height": 8,
            "pos_emb_width": 8,
        },
        text_config={
            **TEXT,
            **MLA,
            "model_type": "deepseek_v3",
            "num_key_value_heads": 4,
            "vocab_size": len(words),
        },
        projection_hidden_size=16,
        image_token_id=seen("<|media_pad|>"),
        video_token_id=seen("<|kimi_k25_video_placeholder|>"),
        vision_start_token_id=seen("<|media_begin|>"),
        vision_end_token_id=seen("<|media_end|>"),
    )
    processor = Kimi_K25Processor(
        Kimi_K25ImageProcessor(patch_size=8),
        words,
        Kimi_K25VideoProcessor(patch_size=8),
        chat_template=template,
    )
    return Kimi_K25ForConditionalGeneration(config), processor


FAMILIES = {"kimi_k25": Tiny(kimi_k25)}
