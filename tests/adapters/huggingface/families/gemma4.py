"""Gemma 4 and what is built upon Gemma 3."""

from __future__ import annotations

from typing import Any

from transformers import Gemma4ImageProcessorPil

from .common import CHATML, TEXT, TURNS, Parts, Tiny, auto, tokenizer

MARKS = ("<|image|>", "<|image>", "<image|>", "<|video|>", "<|audio|>", "<|audio>", "<audio|>")
NAMES = ("image_token", "boi_token", "eoi_token", "video_token", "audio_token", "boa_token",
         "eoa_token")  # fmt: skip


def gemma4(**text: Any) -> tuple[Any, Any]:
    """As many places as an image's shape asks for within a budget."""
    words = tokenizer([*MARKS, *TURNS], **dict(zip(NAMES, MARKS, strict=True)))
    words.chat_template = CHATML.replace("IMAGE", "<|image|>")
    image, first, last, video, audio, *_ = words.convert_tokens_to_ids(list(MARKS))
    model = auto(
        "gemma4",
        vision_config={"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
                       "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8,
                       "patch_size": 4, "pooling_kernel_size": 2, "position_embedding_size": 64},
        audio_config=None,
        text_config={**TEXT, "vocab_size": len(words), "head_dim": 8, "sliding_window": 48,
                     "layer_types": ["sliding_attention", "full_attention"],
                     "vocab_size_per_layer_input": len(words), "hidden_size_per_layer_input": 8,
                     **text},
        image_token_id=image,
        boi_token_id=first,
        eoi_token_id=last,
        video_token_id=video,
        audio_token_id=audio,
    )  # fmt: skip
    images = Gemma4ImageProcessorPil(patch_size=4, pooling_kernel_size=2, max_soft_tokens=70)
    return model, Parts(images, words, "Gemma4Processor", image_seq_length=70)


def gemma4_large() -> tuple[Any, Any]:
    """Without embeddings of its own for each layer; keys are values in full attention."""
    return gemma4(hidden_size_per_layer_input=0, attention_k_eq_v=True)


def gemma4_unified() -> tuple[Any, Any]:
    """Needs torchvision. No encoder: patches are projected as they are, among texts that see them whole."""
    from transformers import (
        Gemma4UnifiedAudioFeatureExtractor,
        Gemma4UnifiedImageProcessor,
        Gemma4UnifiedProcessor,
        Gemma4UnifiedVideoProcessor,
    )

    words = tokenizer([*MARKS, *TURNS], **dict(zip(NAMES, MARKS, strict=True)))
    image, first, last, video, audio, begins, ends = words.convert_tokens_to_ids(list(MARKS))
    cells = {"patch_size": 4, "pooling_kernel_size": 2}
    model = auto(
        "gemma4_unified",
        vision_config={**cells, "mm_embed_dim": 16, "mm_posemb_size": 128, "output_proj_dims": 16},
        audio_config={"audio_embed_dim": 16},
        text_config={**TEXT, "vocab_size": len(words), "head_dim": 8, "sliding_window": 48,
                     "global_head_dim": 8, "layer_types": ["sliding_attention", "full_attention"]},
        image_token_id=image,
        boi_token_id=first,
        eoi_token_id=last,
        video_token_id=video,
        audio_token_id=audio,
        boa_token_id=begins,
        eoa_token_index=ends,
    )  # fmt: skip
    processor = Gemma4UnifiedProcessor(
        Gemma4UnifiedAudioFeatureExtractor(feature_size=16, audio_samples_per_token=16),
        Gemma4UnifiedImageProcessor(**cells, max_soft_tokens=70),
        words,
        Gemma4UnifiedVideoProcessor(**cells, max_soft_tokens=70),
        chat_template=CHATML.replace("IMAGE", "<|image|>"),
        image_seq_length=70,
    )
    return model, processor


FAMILIES = {
    "gemma4": Tiny(gemma4),
    "gemma4_large": Tiny(gemma4_large, "gemma4"),
    "gemma4_unified": Tiny(gemma4_unified),
}
