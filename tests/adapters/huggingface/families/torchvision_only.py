"""Tiny models whose images are prepared by torchvision alone."""

from __future__ import annotations

from typing import Any

from transformers import (
    Cohere2VisionConfig,
    Cohere2VisionForConditionalGeneration,
    MiniMaxM3SparseForConditionalGeneration,
    MiniMaxM3VLConfig,
    Step3p7Config,
    Step3p7ForConditionalGeneration,
)

from .common import CHATML, TEXT, TURNS, VISION, Parts, Tiny, tokenizer


def cohere2_vision() -> tuple[Any, Any]:
    """Cuts images into tiles, each ended by a mark."""
    from transformers import Cohere2VisionImageProcessor

    words = tokenizer(
        ["<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_PATCH|>", "<|IMG_LINE_BREAK|>", *TURNS],
        boi_token="<|START_OF_IMG|>",
        eoi_token="<|END_OF_IMG|>",
        image_token="<|IMG_PATCH|>",
        img_line_break_token="<|IMG_LINE_BREAK|>",
    )
    words.chat_template = CHATML.replace("IMAGE", "<|IMG_PATCH|>")
    config = Cohere2VisionConfig(
        vision_config={**VISION, "image_size": 32, "model_type": "siglip_vision_model",
                       "vision_use_head": False},
        text_config={**TEXT, "model_type": "cohere2", "vocab_size": len(words), "head_dim": 8,
                     "sliding_window": 64, "logit_scale": 1.0,
                     "layer_types": ["sliding_attention", "full_attention"]},
        image_token_id=words.convert_tokens_to_ids("<|IMG_PATCH|>"),
        alignment_intermediate_size=64,
    )  # fmt: skip
    images = Cohere2VisionImageProcessor(
        size={"height": 32, "width": 32}, patch_size=2, max_patches=4
    )
    return Cohere2VisionForConditionalGeneration(config), Parts(
        images, words, "Cohere2VisionProcessor"
    )


def minimax_m3_vl() -> tuple[Any, Any]:
    """Positions of patches in three dimensions for the encoder alone; experts."""
    from transformers import MiniMaxM3VLImageProcessor

    marks = ["]<]image[>[", "]<]video[>[", "]<]start of image[>[", "]<]end of image[>["]
    words = tokenizer([*marks, *TURNS])
    words.chat_template = CHATML.replace("IMAGE", marks[0])
    config = MiniMaxM3VLConfig(
        vision_config={**VISION, "hidden_size": 32, "patch_size": 4, "image_size": 64},
        text_config={**TEXT, "vocab_size": len(words), "head_dim": 8, "rotary_dim": 4,
                     "num_local_experts": 4, "num_experts_per_tok": 2, "dense_intermediate_size": 64,
                     "shared_intermediate_size": 32, "index_head_dim": 8, "index_n_heads": 2,
                     "mlp_layer_types": ["dense", "sparse"],
                     "layer_types": ["full_attention", "full_attention"]},
        image_token_index=words.convert_tokens_to_ids(marks[0]),
        video_token_index=words.convert_tokens_to_ids(marks[1]),
        projector_hidden_size=32,
    )  # fmt: skip
    images = MiniMaxM3VLImageProcessor(
        patch_size=4, merge_size=2, size={"shortest_edge": 256, "longest_edge": 1600}
    )
    return MiniMaxM3SparseForConditionalGeneration(config), Parts(
        images, words, "MiniMaxM3VLProcessor"
    )


def step3p7() -> tuple[Any, Any]:
    """A view of the whole and, of long images, windows of it."""
    from transformers import Step3p7ImageProcessor

    marks = [
        "<im_patch>",
        "<im_start>",
        "<im_end>",
        "<patch_start>",
        "<patch_end>",
        "<patch_newline>",
    ]
    words = tokenizer([*marks, *TURNS])
    words.chat_template = CHATML.replace("IMAGE", "<im_patch>")
    config = Step3p7Config(
        vision_config={**VISION, "hidden_size": 32, "image_size": 64, "patch_size": 4, "mlp_ratio": 2.0,
                       "max_position_embeddings": 256},
        text_config={**TEXT, "vocab_size": len(words), "head_dim": 8, "n_routed_experts": 4,
                     "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
                     "share_expert_dim": 32, "sliding_window": 64, "mlp_layer_types": ["dense", "sparse"],
                     "layer_types": ["full_attention", "full_attention"]},
        image_token_id=words.convert_tokens_to_ids("<im_patch>"),
    )  # fmt: skip
    images = Step3p7ImageProcessor(
        size={"height": 64, "width": 64}, patch_size=32, vision_patch_size=4, max_image_size=128
    )
    return Step3p7ForConditionalGeneration(config), Parts(images, words, "Step3p7Processor")


FAMILIES = {
    "cohere2_vision": Tiny(cohere2_vision),
    "minimax_m3_vl": Tiny(minimax_m3_vl),
    "step3p7": Tiny(step3p7),
}
