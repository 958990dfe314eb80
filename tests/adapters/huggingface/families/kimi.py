"""Kimi K2.5, whose image processor wants torchvision."""

from __future__ import annotations

from typing import Any

from .common import CHATML, TEXT, TURNS, Parts, Tiny, auto, tokenizer

MARKS = ("<|media_pad|>", "<|kimi_k25_video_placeholder|>", "<|media_begin|>", "<|media_end|>")


def kimi_k25() -> tuple[Any, Any]:
    """Latent attention, and experts."""
    from transformers import Kimi_K25ImageProcessor

    words = tokenizer([*MARKS, *TURNS])
    words.chat_template = CHATML.replace("IMAGE", f"{MARKS[2]}{MARKS[0]}{MARKS[3]}")
    image, video, first, last = words.convert_tokens_to_ids(list(MARKS))
    model = auto(
        "kimi_k25",
        vision_config={"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
                       "num_attention_heads": 2, "patch_size": 4, "pos_emb_height": 8,
                       "pos_emb_width": 8},
        text_config={**TEXT, "model_type": "deepseek_v3", "vocab_size": len(words),
                     "num_key_value_heads": 4, "moe_intermediate_size": 16, "n_shared_experts": 1,
                     "n_routed_experts": 4, "kv_lora_rank": 8, "q_lora_rank": 8,
                     "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8, "n_group": 1,
                     "topk_group": 1, "num_experts_per_tok": 2, "first_k_dense_replace": 1},
        projection_hidden_size=16,
        image_token_id=image,
        video_token_id=video,
        vision_start_token_id=first,
        vision_end_token_id=last,
    )  # fmt: skip
    return model, Parts(Kimi_K25ImageProcessor(patch_size=4), words, "Kimi_K25Processor")


FAMILIES = {"kimi_k25": Tiny(kimi_k25)}
