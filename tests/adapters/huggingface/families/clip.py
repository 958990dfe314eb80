"""LLaVA's later kin, with CLIP's encoder."""

from __future__ import annotations

from typing import Any

from transformers import CLIPImageProcessorPil, LlavaNextImageProcessorPil

from .common import CHATML, TEXT, TURNS, VISION, Parts, Tiny, auto, tokenizer

ENCODER = {**VISION, "image_size": 32, "model_type": "clip_vision_model", "projection_dim": 16}
CROP = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
GRID = [[32, 64], [64, 32], [64, 64]]
SELECTED = {
    "patch_size": 8, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1,
}  # fmt: skip


def words_of() -> Any:
    words = tokenizer(["<image>", "<video>", *TURNS])
    words.chat_template = CHATML.replace("IMAGE", "<image>\n")
    return words


def clip(
    model_type: str,
    images: Any,
    name: str,
    text: str = "llama",
    frames: str | None = None,
    **named: Any,
) -> tuple[Any, Any]:
    words = words_of()
    model = auto(
        model_type,
        vision_config=ENCODER,
        text_config={**TEXT, "model_type": text, "vocab_size": len(words)},
        image_token_index=words.convert_tokens_to_ids("<image>"),
        **named,
    )
    return model, Parts(images, words, name, frames, **SELECTED)


def video(words: Any) -> int:
    return int(words.convert_tokens_to_ids("<video>"))


def llava_next() -> tuple[Any, Any]:
    images = LlavaNextImageProcessorPil(**CROP, image_grid_pinpoints=GRID)
    return clip("llava_next", images, "LlavaNextProcessor", "mistral", image_grid_pinpoints=GRID)


def llava_next_video() -> tuple[Any, Any]:
    images = LlavaNextImageProcessorPil(**CROP, image_grid_pinpoints=GRID)
    return clip(
        "llava_next_video", images, "LlavaNextVideoProcessor", image_grid_pinpoints=GRID,
        video_token_index=video(words_of()), frames="LlavaNextVideoVideoProcessor",
    )  # fmt: skip


def vipllava() -> tuple[Any, Any]:
    """Features of several of the encoder's layers."""
    layers = [-1, -2]
    images = CLIPImageProcessorPil(**CROP)
    return clip("vipllava", images, "LlavaProcessor", vision_feature_layers=layers)


FAMILIES = {
    "llava_next": Tiny(llava_next),
    "llava_next_video": Tiny(llava_next_video),
    "vipllava": Tiny(vipllava),
}
