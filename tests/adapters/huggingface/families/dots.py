"""dots3-note: latent attention to what an index chooses, and to a window, in turns."""

from __future__ import annotations

from typing import Any

from transformers import Qwen2VLImageProcessorPil

from .common import TEXT, Parts, Tiny, auto
from .grids import SIZED, marked

MARKS = ("<|imgpad|>", "<|video_pad|>", "<|audio_comp_pad|>", "<|img|>", "<|endofimg|>")


def dots3_note() -> tuple[Any, Any]:
    # Of few heads many scores are zero, and which of those are chosen is chance.
    words = marked(MARKS, "<|img|>", "<|imgpad|>", "<|endofimg|>")
    image, video, audio, *_ = words.convert_tokens_to_ids(list(MARKS))
    model = auto(
        "dots3_note",
        vision_config={"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
                       "num_attention_heads": 2, "patch_size": 4, "adapter_in_dim": 16,
                       "adapter_out_dim": 32, "mlp_layer_types": ["dense", "dense"]},
        audio_config={"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
                      "num_attention_heads": 2, "downsample_hidden_size": 4,
                      "adapter_input_size": 16, "adapter_out_dim": 32},
        text_config={**TEXT, "vocab_size": len(words), "num_key_value_heads": 4,
                     "moe_intermediate_size": 16, "n_routed_experts": 4, "num_experts_per_tok": 2,
                     "shared_experts_intermediate_size": 16, "kv_lora_rank": 16, "q_lora_rank": 16,
                     "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8, "head_dim": 16,
                     "index_topk": 64, "index_head_dim": 16, "index_n_heads": 16,
                     "num_hidden_layers": 3, "sliding_window_size": 48,
                     "layer_types": ["indexed_attention", "sliding_attention", "indexed_attention"],
                     "swa_num_attention_heads": 2, "swa_num_key_value_heads": 2,
                     "swa_q_lora_rank": 16, "swa_kv_lora_rank": 16, "swa_head_dim": 16,
                     "swa_qk_nope_head_dim": 8, "swa_v_head_dim": 8},
        image_token_id=image,
        video_token_id=video,
        audio_token_id=audio,
    )  # fmt: skip
    images = Qwen2VLImageProcessorPil(**{**SIZED, "temporal_patch_size": 1})
    return model, Parts(images, words, "Dots3NoteProcessor")


FAMILIES = {"dots3_note": Tiny(dots3_note)}
