"""Families with Pixtral's encoder behind a merge of patches."""

from __future__ import annotations

from typing import Any

from transformers import PixtralImageProcessorPil

from .common import CHATML, TEXT, TURNS, VISION, Parts, Tiny, auto, tokenizer

ENCODER = {**VISION, "model_type": "pixtral", "image_size": 64, "head_dim": 8}
MERGED = {"patch_size": 8, "spatial_merge_size": 2}
MARKS = ["[IMG]", "[IMG_BREAK]", "[IMG_END]"]


def images() -> Any:
    return PixtralImageProcessorPil(
        patch_size={"height": 16, "width": 16}, size={"longest_edge": 64}
    )


def mistral(family: str, **text: Any) -> tuple[Any, Any]:
    words = tokenizer([*MARKS, *TURNS], bos=True)
    words.chat_template = CHATML.replace("IMAGE", "[IMG]")
    model = auto(
        family,
        vision_config=ENCODER,
        text_config={**TEXT, "vocab_size": len(words), "head_dim": 8, **text},
        image_token_index=words.convert_tokens_to_ids("[IMG]"),
        spatial_merge_size=2,
        tie_word_embeddings=False,
    )
    return model, Parts(images(), words, "PixtralProcessor", **MERGED)


def mistral3() -> tuple[Any, Any]:
    return mistral("mistral3", model_type="mistral", sliding_window=None)


def ministral3() -> tuple[Any, Any]:
    rope = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "beta_fast": 32.0, "beta_slow": 1.0,
            "original_max_position_embeddings": 512, "llama_4_scaling_beta": 0.1,
            "mscale": 1.0, "mscale_all_dim": 1.0}  # fmt: skip
    return mistral("mistral3", model_type="ministral3", rope_parameters=rope, sliding_window=None)


def mistral_large4() -> tuple[Any, Any]:
    """Latent attention, and experts."""
    return mistral(
        "mistral_large4", num_key_value_heads=4, kv_lora_rank=8, qk_rope_head_dim=8,
        qk_nope_head_dim=8, v_head_dim=8, q_lora_rank=None, n_routed_experts=4, n_shared_experts=1,
        num_experts_per_tok=2, moe_intermediate_size=16, index_topk=64, index_head_dim=8,
        index_n_heads=16, first_k_dense_replace=1,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4},
    )  # fmt: skip


def lighton_ocr() -> tuple[Any, Any]:
    marks = ["<|image_pad|>", "<|vision_pad|>", "<|vision_end|>"]
    names = ("image_token", "image_break_token", "image_end_token")
    words = tokenizer([*marks, *TURNS], **dict(zip(names, marks, strict=True)))
    words.chat_template = CHATML.replace("IMAGE", "<|image_pad|>")
    model = auto(
        "lighton_ocr",
        vision_config=ENCODER,
        text_config={**TEXT, "model_type": "qwen3", "vocab_size": len(words), "head_dim": 8},
        image_token_id=words.convert_tokens_to_ids("<|image_pad|>"),
        spatial_merge_size=2,
    )
    return model, Parts(images(), words, "LightOnOcrProcessor", **MERGED)


FAMILIES = {
    "mistral3": Tiny(mistral3),
    "ministral3": Tiny(ministral3, "mistral3"),
    "mistral_large4": Tiny(mistral_large4),
    "lighton_ocr": Tiny(lighton_ocr),
}
