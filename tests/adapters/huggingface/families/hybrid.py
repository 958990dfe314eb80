"""Tiny models whose decoders remember otherwise than by keys and values of all positions."""

from __future__ import annotations

from typing import Any

from transformers import (
    CLIPImageProcessorPil,
    DeepseekV3Config,
    GotOcr2ImageProcessorPil,
    InternVLConfig,
    InternVLForConditionalGeneration,
    Lfm3VlConfig,
    Lfm3VlForConditionalGeneration,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    Qwen2VLImageProcessorPil,
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
    Qwen3_5MoeConfig,
    Qwen3_5MoeForConditionalGeneration,
    Qwen4ExpConfig,
    Qwen4ExpForConditionalGeneration,
)

from .common import CHATML, TEXT, TURNS, VISION, Parts, Tiny, tokenizer

MARKS = ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"]
QWEN_VISION = {
    "depth": 2,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_heads": 2,
    "out_hidden_size": 32,
    "patch_size": 4,
    "num_position_embeddings": 64,
}
QWEN_TEXT = {
    **TEXT,
    "num_hidden_layers": 4,
    "head_dim": 8,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 1e4,
        "mrope_section": [2, 1, 1],
        "mrope_interleaved": True,
        "partial_rotary_factor": 1.0,
    },
}
QWEN_MOE = {
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
    "num_experts": 4,
    "num_experts_per_tok": 2,
}


def qwen_words(*more: str) -> Any:
    words = tokenizer([*MARKS, *TURNS, *more])
    words.chat_template = CHATML.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    return words


def qwen_ids(words: Any) -> dict[str, int]:
    seen = words.convert_tokens_to_ids
    return {
        "image_token_id": seen("<|image_pad|>"),
        "video_token_id": seen("<|video_pad|>"),
        "vision_start_token_id": seen("<|vision_start|>"),
        "vision_end_token_id": seen("<|vision_end|>"),
    }


def qwen_parts(words: Any, name: str = "Qwen3VLProcessor", **more: Any) -> Parts:
    images = Qwen2VLImageProcessorPil(
        patch_size=4, merge_size=2, size={"shortest_edge": 256, "longest_edge": 1600}
    )
    return Parts(images, words, name, **more)


def qwen3_5() -> tuple[Any, Any]:
    """Three layers with a state, then one of attention."""
    words = qwen_words()
    config = Qwen3_5Config(
        vision_config=QWEN_VISION,
        text_config={**QWEN_TEXT, "vocab_size": len(words)},
        **qwen_ids(words),
    )
    return Qwen3_5ForConditionalGeneration(config), qwen_parts(words)


def qwen3_5_moe() -> tuple[Any, Any]:
    words = qwen_words()
    config = Qwen3_5MoeConfig(
        vision_config=QWEN_VISION,
        text_config={**QWEN_TEXT, **QWEN_MOE, "vocab_size": len(words)},
        **qwen_ids(words),
    )
    return Qwen3_5MoeForConditionalGeneration(config), qwen_parts(words)


def qwen4_exp() -> tuple[Any, Any]:
    """States of three kinds in a layer, and attention to blocks that an index of all positions chooses."""
    words = qwen_words()
    config = Qwen4ExpConfig(
        vision_config=QWEN_VISION,
        text_config={
            **QWEN_TEXT,
            **QWEN_MOE,
            "vocab_size": len(words),
            "hc_count": 2,
            "hc_lowrank": 8,
            "ple_layer_ids": [1],
            "ple_embed_dim": 32,
            "ngram_vocab_size_base": 64,
            "make_ngram_vocab_size_divisible_by": 8,
            "heads_per_ngram": 2,
            "split_ngram_parts": 1,
            "indexer_n_heads": 2,
            "indexer_kv_heads": 1,
            "indexer_head_dim": 8,
            "indexer_budget": 64,
            "indexer_compress_ratio": 4,
        },
        **qwen_ids(words),
    )
    return Qwen4ExpForConditionalGeneration(config), qwen_parts(words)


def lfm3_vl() -> tuple[Any, Any]:
    """Layers of convolutions, of a window, and of all positions."""
    words = qwen_words()
    config = Lfm3VlConfig(
        vision_config={"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3,
                       "num_attention_heads": 2, "num_key_value_heads": 2, "patch_size": 4},
        text_config={
            **TEXT,
            "model_type": "lfm3",
            "vocab_size": len(words),
            "num_hidden_layers": 4,
            "head_dim": 8,
            "sliding_window": 48,
            "layer_types": ["conv", "sliding_attention", "conv", "full_attention"],
        },
        **qwen_ids(words),
    )  # fmt: skip
    return Lfm3VlForConditionalGeneration(config), qwen_parts(words, "Lfm3VlProcessor")


MLA = {
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "first_k_dense_replace": 1,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "n_shared_experts": 1,
    "moe_intermediate_size": 16,
}


def internvl_mla() -> tuple[Any, Any]:
    """A decoder that keeps what keys and values are made of (arXiv 2405.04434), as Kimi-K2.5's."""
    words = tokenizer(
        ["<img>", "</img>", "<IMG_CONTEXT>", "<video>", *TURNS],
        start_image_token="<img>",
        end_image_token="</img>",
        context_image_token="<IMG_CONTEXT>",
        video_token="<video>",
    )
    words.chat_template = CHATML.replace("IMAGE", "<IMG_CONTEXT>\n")
    text = {**TEXT, **MLA, "num_key_value_heads": 4, "vocab_size": len(words)}
    config = InternVLConfig(
        vision_config={**VISION, "image_size": 32, "model_type": "internvl_vision"},
        text_config=DeepseekV3Config(**text),
        image_token_id=words.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
        tie_word_embeddings=False,
    )
    images = GotOcr2ImageProcessorPil(size={"height": 32, "width": 32}, crop_to_patches=False)
    return InternVLForConditionalGeneration(config), Parts(
        images, words, "InternVLProcessor", image_seq_length=4
    )


def llava_longrope() -> tuple[Any, Any]:
    """Positions that turn otherwise in a pass of more than 90, as Phi-4's do beyond 4,096."""
    words = tokenizer(["<image>"], bos=True)
    images = CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    processor = LlavaProcessor(
        images,
        words,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    config = LlavaConfig(
        vision_config={**VISION, "image_size": 32, "model_type": "clip_vision_model",
                       "projection_dim": 16},
        text_config={
            **TEXT,
            "model_type": "phi3",
            "vocab_size": len(words),
            "original_max_position_embeddings": 90,
            "rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4,
                                "short_factor": [1.0, 1.0, 1.0, 1.0],
                                "long_factor": [1.5, 3.0, 7.0, 12.0]},
        },
        image_token_index=words.convert_tokens_to_ids("<image>"),
        image_seq_length=16,
        vision_feature_layer=-1,
    )  # fmt: skip
    return LlavaForConditionalGeneration(config), processor


FAMILIES = {
    "qwen3_5": Tiny(qwen3_5),
    "qwen3_5_moe": Tiny(qwen3_5_moe),
    "qwen4_exp": Tiny(qwen4_exp),
    "lfm3_vl": Tiny(lfm3_vl),
    "llava_longrope": Tiny(llava_longrope, "llava", "plain"),
    "internvl_mla": Tiny(internvl_mla, "internvl"),
}
