"""A tiny GLM-5-next: layers with a state, and latent attention to what an index of all positions chooses."""

from __future__ import annotations

from typing import Any

from transformers import (
    Glm5NextConfig,
    Glm5NextForConditionalGeneration,
    Glm5NextImageProcessorPil,
)

from .common import CHATML, TEXT, TURNS, Parts, Tiny, tokenizer

MARKS = ["<|image|>", "<|video|>", "<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>",
         "<|end_of_video|>"]  # fmt: skip


def glm5_next() -> tuple[Any, Any]:
    words = tokenizer([*MARKS, *TURNS])
    words.chat_template = CHATML.replace("IMAGE", "<|begin_of_image|><|image|><|end_of_image|>")
    seen = words.convert_tokens_to_ids
    text = {
        **TEXT,
        "num_key_value_heads": 4,
        "vocab_size": len(words),
        "num_hidden_layers": 3,
        "moe_intermediate_size": 16,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "kv_lora_rank": 16,
        "q_lora_rank": 16,
        "v_head_dim": 8,
        "qk_nope_head_dim": 8,
        "index_topk": 64,
        "index_head_dim": 8,
        "index_n_heads": 2,
        "index_kpool": 4,
        "linear_head_dim": 8,
        "linear_num_heads": 4,
        "hc_mult": 2,
        "layer_types": ["linear_attention", "linear_attention", "full_attention"],
    }
    config = Glm5NextConfig(
        vision_config={"depth": 2, "hidden_size": 16, "num_heads": 2, "image_size": 64,
                       "patch_size": 4, "out_hidden_size": 32, "intermediate_size": 32},
        text_config=text,
        image_token_id=seen("<|image|>"),
        video_token_id=seen("<|video|>"),
        image_start_token_id=seen("<|begin_of_image|>"),
        image_end_token_id=seen("<|end_of_image|>"),
        video_start_token_id=seen("<|begin_of_video|>"),
        video_end_token_id=seen("<|end_of_video|>"),
    )  # fmt: skip
    images = Glm5NextImageProcessorPil(
        patch_size=4, merge_size=2, size={"shortest_edge": 256, "longest_edge": 3200}
    )
    return Glm5NextForConditionalGeneration(config), Parts(images, words, "Glm5NextProcessor")


FAMILIES = {"glm5_next": Tiny(glm5_next)}
