"""Qwen's families, whose positions have three dimensions."""

from __future__ import annotations

from typing import Any

from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from .common import CHATML, TEXT, TURNS, Parts, Tiny, tokenizer


def qwen2_5_vl() -> tuple[Any, Any]:
    """Three-dimensional positions; as many tokens as an image's size asks for; a video processor that
    cannot be built here."""
    words = tokenizer(
        ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>", "<|im_start|>",
         "<|im_end|>"]
    )  # fmt: skip
    seen = words.convert_tokens_to_ids
    config = Qwen2_5_VLConfig(
        vision_config={
            "depth": 2,
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_heads": 2,
            "out_hidden_size": 32,
            "patch_size": 4,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 32,
            "fullatt_block_indexes": [1],
        },
        text_config={
            **TEXT,
            "model_type": "qwen2_5_vl_text",
            "vocab_size": len(words),
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e4,
                "mrope_section": [2, 1, 1],
            },
        },
        image_token_id=seen("<|image_pad|>"),
        video_token_id=seen("<|video_pad|>"),
        vision_start_token_id=seen("<|vision_start|>"),
        vision_end_token_id=seen("<|vision_end|>"),
    )
    images = Qwen2VLImageProcessorPil(
        patch_size=4, merge_size=2, size={"shortest_edge": 256, "longest_edge": 1600}
    )
    template = CHATML.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    words.chat_template = template
    return Qwen2_5_VLForConditionalGeneration(config), Parts(images, words, "Qwen2_5_VLProcessor")


def qwen3_vl() -> tuple[Any, Any]:
    """Features of an image for several layers; positions in three dimensions."""
    words = tokenizer(
        ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>", *TURNS]
    )
    words.chat_template = CHATML.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    seen = words.convert_tokens_to_ids
    config = Qwen3VLConfig(
        vision_config={
            "depth": 2,
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_heads": 2,
            "out_hidden_size": 32,
            "patch_size": 4,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0, 1],
        },
        text_config={
            **TEXT,
            "model_type": "qwen3_vl_text",
            "vocab_size": len(words),
            "head_dim": 8,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e4,
                "mrope_section": [2, 1, 1],
                "mrope_interleaved": True,
            },
        },
        image_token_id=seen("<|image_pad|>"),
        video_token_id=seen("<|video_pad|>"),
        vision_start_token_id=seen("<|vision_start|>"),
        vision_end_token_id=seen("<|vision_end|>"),
    )
    images = Qwen2VLImageProcessorPil(
        patch_size=4, merge_size=2, size={"shortest_edge": 256, "longest_edge": 1600}
    )
    return Qwen3VLForConditionalGeneration(config), Parts(images, words, "Qwen3VLProcessor")


FAMILIES = {
    "qwen2_5_vl": Tiny(qwen2_5_vl),
    "qwen3_vl": Tiny(qwen3_vl),
}
