"""Families with an encoder of images of one size, and as many places for each."""

from __future__ import annotations

from typing import Any

from transformers import (
    AriaImageProcessorPil,
    DeepseekVLHybridImageProcessorPil,
    DeepseekVLImageProcessorPil,
    GotOcr2ImageProcessorPil,
    JanusImageProcessorPil,
)

from .common import CHATML, TEXT, TURNS, VISION, Parts, Tiny, auto, tokenizer

LLAMA = {**TEXT, "model_type": "llama"}
SQUARE = {"height": 32, "width": 32}


def marked(slot: str, *more: str, **named: str) -> Any:
    words = tokenizer([slot, *more, *TURNS], image_token=slot, **named)
    words.chat_template = CHATML.replace("IMAGE", slot)
    return words


def aya_vision() -> tuple[Any, Any]:
    """Tiles of an image, each named by a token."""
    marks = ["<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_PATCH|>", "<|IMG_LINE_BREAK|>",
             "TILE_GLOBAL", *[f"TILE_{number}" for number in range(1, 5)]]  # fmt: skip
    words = tokenizer(["<image>", *marks, *TURNS])
    words.chat_template = CHATML.replace("IMAGE", "<image>")
    model = auto(
        "aya_vision",
        vision_config={**VISION, "image_size": 32, "model_type": "siglip_vision_model",
                       "vision_use_head": False},
        text_config={**TEXT, "model_type": "cohere2", "vocab_size": len(words), "head_dim": 8,
                     "sliding_window": 48, "layer_types": ["sliding_attention", "full_attention"],
                     "logit_scale": 1.0},
        image_token_index=words.convert_tokens_to_ids("<|IMG_PATCH|>"),
        downsample_factor=2,
    )  # fmt: skip
    images = GotOcr2ImageProcessorPil(
        size=SQUARE, crop_to_patches=True, min_patches=1, max_patches=4
    )
    return model, Parts(
        images, words, "AyaVisionProcessor", patch_size=8, img_size=32, downsample_factor=2
    )


def aria() -> tuple[Any, Any]:
    """Experts; as many queries for an image as its size has in a table."""
    words = marked("<|img|>")
    model = auto(
        "aria",
        vision_config={**VISION, "image_size": 490, "patch_size": 70, "model_type": "idefics3_vision"},
        text_config={**TEXT, "vocab_size": len(words), "moe_num_experts": 4, "moe_topk": 2,
                     "moe_num_shared_experts": 1, "head_dim": 8},
        projector_patch_to_query_dict={49: 4, 196: 8},
        image_token_index=words.convert_tokens_to_ids("<|img|>"),
    )  # fmt: skip
    images = AriaImageProcessorPil(max_image_size=490, split_image=False)
    return model, Parts(images, words, "AriaProcessor", size_conversion={490: 4, 980: 8})


def janus() -> tuple[Any, Any]:
    words = marked("<image_placeholder>", "<begin_of_image>", "<end_of_image>",
                   boi_token="<begin_of_image>", eoi_token="<end_of_image>")  # fmt: skip
    model = auto(
        "janus",
        vision_config={**VISION, "image_size": 32, "projection_dim": 32, "num_image_tokens": 16,
                       "mlp_ratio": 2.0},
        vq_config={"embed_dim": 8, "num_embeddings": 16, "latent_channels": 8, "base_channels": 32,
                   "channel_multiplier": [1, 1], "num_res_blocks": 1, "num_patches": 4,
                   "projection_dim": 32, "image_token_embed_dim": 32},
        text_config={**LLAMA, "vocab_size": len(words)},
        image_token_id=words.convert_tokens_to_ids("<image_placeholder>"),
    )  # fmt: skip
    images = JanusImageProcessorPil(size=SQUARE, image_size=32, min_size=4)
    return model, Parts(images, words, "JanusProcessor", num_image_tokens=16)


def deepseek_vl() -> tuple[Any, Any]:
    words = marked("<image_placeholder>")
    model = auto(
        "deepseek_vl",
        vision_config={**VISION, "image_size": 32, "model_type": "siglip_vision_model"},
        text_config={**LLAMA, "vocab_size": len(words)},
        image_token_id=words.convert_tokens_to_ids("<image_placeholder>"),
    )
    images = DeepseekVLImageProcessorPil(size=SQUARE, min_size=4)
    return model, Parts(images, words, "DeepseekVLProcessor", num_image_tokens=16)


def deepseek_vl_hybrid() -> tuple[Any, Any]:
    """Two encoders see an image, at two sizes."""
    words = marked("<image_placeholder>")
    model = auto(
        "deepseek_vl_hybrid",
        vision_config={**VISION, "image_size": 32, "model_type": "siglip_vision_model"},
        high_res_vision_config={"hidden_size": 16, "output_channels": 16, "num_hidden_layers": 2,
                                "num_attention_heads": 2, "image_size": 128, "patch_size": 8,
                                "global_attn_indexes": [1], "window_size": 4, "mlp_dim": 32,
                                "num_pos_feats": 8, "model_type": "sam_vision_model"},
        text_config={**LLAMA, "vocab_size": len(words)},
        image_token_id=words.convert_tokens_to_ids("<image_placeholder>"),
    )  # fmt: skip
    images = DeepseekVLHybridImageProcessorPil(
        size=SQUARE, min_size=4, high_res_size={"height": 128, "width": 128}
    )
    return model, Parts(images, words, "DeepseekVLHybridProcessor", num_image_tokens=16)


FAMILIES = {
    "aya_vision": Tiny(aya_vision),
    "aria": Tiny(aria),
    "janus": Tiny(janus),
    "deepseek_vl": Tiny(deepseek_vl),
    "deepseek_vl_hybrid": Tiny(deepseek_vl_hybrid),
}
