"""NVIDIA's Cosmos 3, whose images are Qwen's grids of patches."""

from __future__ import annotations

from typing import Any

from transformers import Cosmos3EdgeImageProcessorPil, Qwen2VLImageProcessorPil

from .common import TEXT, Parts, Tiny, auto
from .grids import DEEP, SECTIONS, SIZED, qwen_ids, qwen_words


def cosmos3_edge() -> tuple[Any, Any]:
    """An encoder without deep layers; a plain feed-forward layer in its decoder."""
    words = qwen_words()
    model = auto(
        "cosmos3_edge",
        vision_config={"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
                       "num_attention_heads": 2, "patch_size": 4, "num_patches": 64},
        text_config={**TEXT, "vocab_size": len(words), "head_dim": 8, "rope_parameters": SECTIONS},
        projector_hidden_size=32,
        **qwen_ids(words),
    )  # fmt: skip
    images = Cosmos3EdgeImageProcessorPil(**SIZED)
    return model, Parts(images, words, "Cosmos3EdgeProcessor")


def cosmos3_omni() -> tuple[Any, Any]:
    """Qwen3-VL's parts."""
    words = qwen_words()
    text = {**TEXT, "vocab_size": len(words), "head_dim": 8,
            "rope_parameters": {**SECTIONS, "mrope_interleaved": True}}  # fmt: skip
    model = auto("cosmos3_omni", vision_config=DEEP, text_config=text, **qwen_ids(words))
    return model, Parts(Qwen2VLImageProcessorPil(**SIZED), words, "Qwen3VLProcessor")


def types_too(adapter: Any, asked: Any) -> dict[str, Any]:
    """Its processor leaves out what its own `generate` wants, where an image stands among the ids."""
    from ..prompts import plain_inputs

    given = plain_inputs(adapter, asked)
    types = (given["input_ids"] == adapter.opened.form.slot).long()
    return {**given, "mm_token_type_ids": types}


FAMILIES = {
    "cosmos3_edge": Tiny(cosmos3_edge, inputs=types_too),
    "cosmos3_omni": Tiny(cosmos3_omni),
}
