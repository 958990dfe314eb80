"""Tiny omni models: what sees, hears and answers in words, alone and as released, beside what speaks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from transformers import (
    Qwen2_5OmniConfig,
    Qwen2_5OmniThinkerConfig,
    Qwen2_5OmniThinkerForConditionalGeneration,
    Qwen3OmniMoeConfig,
    Qwen3OmniMoeThinkerConfig,
    Qwen3OmniMoeThinkerForConditionalGeneration,
)

from .common import CHATML, TEXT, TURNS, Tiny, tokenizer
from .hybrid import MARKS, QWEN_VISION, qwen_parts

OMNI_AUDIO = {
    "d_model": 16,
    "encoder_layers": 1,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 16,
    "num_mel_bins": 8,
    "output_dim": 32,
}
EARS = {"feature_extractor_type": "WhisperFeatureExtractor", "feature_size": 8}
OMNI_MARKS = {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "audio_token": "<|AUDIO|>",
    "vision_bos_token": "<|vision_start|>",
    "vision_eos_token": "<|vision_end|>",
    "audio_bos_token": "<|audio_bos|>",
    "audio_eos_token": "<|audio_eos|>",
}


def omni_words() -> Any:
    words = tokenizer([*MARKS, *TURNS, "<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>"], **OMNI_MARKS)
    words.chat_template = CHATML.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    return words


def qwen2_5_omni_thinker() -> tuple[Any, Any]:
    """The part of an omni model that hears, sees and answers in words."""
    words = omni_words()
    seen = words.convert_tokens_to_ids
    config = Qwen2_5OmniThinkerConfig(
        audio_config=OMNI_AUDIO,
        vision_config={
            **{k: v for k, v in QWEN_VISION.items() if k != "num_position_embeddings"},
            "window_size": 32,
            "fullatt_block_indexes": [1],
        },
        text_config={
            **TEXT,
            "vocab_size": len(words),
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e4,
                "mrope_section": [2, 1, 1],
            },
        },
        image_token_index=seen("<|image_pad|>"),
        video_token_index=seen("<|video_pad|>"),
        audio_token_index=seen("<|AUDIO|>"),
        audio_start_token_id=seen("<|audio_bos|>"),
        audio_end_token_id=seen("<|audio_eos|>"),
        vision_start_token_id=seen("<|vision_start|>"),
        vision_end_token_id=seen("<|vision_end|>"),
    )
    return Qwen2_5OmniThinkerForConditionalGeneration(config), qwen_parts(
        words, "Qwen2_5OmniProcessor", feature_extractor=EARS
    )


def qwen3_omni_moe_thinker() -> tuple[Any, Any]:
    words = omni_words()
    seen = words.convert_tokens_to_ids
    config = Qwen3OmniMoeThinkerConfig(
        audio_config={**OMNI_AUDIO, "downsample_hidden_size": 8},
        vision_config={**QWEN_VISION, "deepstack_visual_indexes": [0, 1]},
        text_config={
            **TEXT,
            "vocab_size": len(words),
            "head_dim": 8,
            "moe_intermediate_size": 16,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e4,
                "mrope_section": [2, 1, 1],
                "mrope_interleaved": True,
            },
        },
        image_token_id=seen("<|image_pad|>"),
        video_token_id=seen("<|video_pad|>"),
        audio_token_id=seen("<|AUDIO|>"),
        audio_start_token_id=seen("<|audio_bos|>"),
        vision_start_token_id=seen("<|vision_start|>"),
    )
    return Qwen3OmniMoeThinkerForConditionalGeneration(config), qwen_parts(
        words, "Qwen3OmniMoeProcessor", feature_extractor=EARS
    )


def experts(name: str, weight: Any) -> list[tuple[str, Any]]:
    """Each expert's own, where one tensor holds those of all."""
    head, _, kind = name.rpartition(".experts.")
    if kind == "down_proj":
        return [(f"{head}.experts.{i}.{kind}.weight", one) for i, one in enumerate(weight)]
    if kind == "gate_up_proj":
        return [
            (f"{head}.experts.{i}.{half}.weight", part)
            for i, one in enumerate(weight)
            for half, part in zip(("gate_proj", "up_proj"), one.chunk(2), strict=True)
        ]
    return [(name, weight)]


class Released:
    """An omni model as its makers give it: a thinker under a name of its own, beside what speaks."""

    def __init__(self, thinker: Any, config: Any, **named: Any):
        self.thinker, self.config, self.named = thinker, config, named
        self.generation_config = thinker.generation_config
        self.named_parameters = thinker.named_parameters

    def eval(self) -> Released:
        return self

    def save_pretrained(self, folder: Path) -> None:
        import torch
        from safetensors.torch import save_file

        old = (
            (r"^model\.(visual|audio_tower)\.", r"\1."),
            (r"^model\.language_model\.", "model."),
        )
        weights = {}
        for name, weight in self.thinker.state_dict().items():
            for new, as_released in old:
                name = re.sub(new, as_released, name)
            for part, held in experts(name, weight):
                weights[f"thinker.{part}"] = held.clone()
        weights["talker.codec_head.weight"] = torch.ones(2, 2)
        folder.mkdir()
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
        self.config(thinker_config=self.thinker.config.to_dict(), **self.named).save_pretrained(
            folder
        )


def qwen2_5_omni() -> tuple[Any, Any]:
    thinker, processor = qwen2_5_omni_thinker()
    return Released(thinker, Qwen2_5OmniConfig), processor


def qwen3_omni_moe() -> tuple[Any, Any]:
    """Its experts lie apart in the files, each with a name of its own."""
    thinker, processor = qwen3_omni_moe_thinker()
    return Released(thinker, Qwen3OmniMoeConfig), processor


FAMILIES = {
    "qwen2_5_omni": Tiny(qwen2_5_omni),
    "qwen2_5_omni_thinker": Tiny(qwen2_5_omni_thinker),
    "qwen3_omni_moe": Tiny(qwen3_omni_moe),
    "qwen3_omni_moe_thinker": Tiny(qwen3_omni_moe_thinker),
}
