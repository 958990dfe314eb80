"""LLaVA and its kin."""

from __future__ import annotations

from typing import Any

from transformers import (
    CLIPImageProcessorPil,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessorPil,
    LlavaProcessor,
    PixtralImageProcessorPil,
    VideoLlavaConfig,
    VideoLlavaForConditionalGeneration,
    VideoLlavaImageProcessor,
)

from .common import CHATML, TEXT, TURNS, VISION, Parts, Tiny, tokenizer


def llava() -> tuple[Any, Any]:
    """A base model: no template; its tokenizer puts <bos> in front."""
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
        text_config={**TEXT, "model_type": "llama", "vocab_size": len(words)},
        image_token_index=words.convert_tokens_to_ids("<image>"),
        image_seq_length=16,
        vision_feature_layer=-1,
    )  # fmt: skip
    return LlavaForConditionalGeneration(config), processor


def llava_onevision() -> tuple[Any, Any]:
    """Treats an image that is alone in its prompt differently from one of several."""
    words = tokenizer(["<image>", "<video>", *TURNS])
    words.chat_template = CHATML.replace("IMAGE", "<image>\n")
    grid = [[32, 32], [32, 64], [64, 32], [64, 64]]
    config = LlavaOnevisionConfig(
        vision_config={**VISION, "image_size": 32, "model_type": "siglip_vision_model",
                       "vision_use_head": False},
        text_config={**TEXT, "model_type": "qwen2", "vocab_size": len(words)},
        image_token_index=words.convert_tokens_to_ids("<image>"),
        video_token_index=words.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=grid,
    )  # fmt: skip
    images = LlavaOnevisionImageProcessorPil(
        size={"height": 32, "width": 32}, image_grid_pinpoints=grid
    )
    return LlavaOnevisionForConditionalGeneration(config), Parts(
        images, words, "LlavaOnevisionProcessor", num_image_tokens=16,
        vision_feature_select_strategy="full",
    )  # fmt: skip


def pixtral() -> tuple[Any, Any]:
    """As many tokens as an image's size asks for, and one at the end of each row of them."""
    words = tokenizer(["[IMG]", "[IMG_BREAK]", "[IMG_END]", *TURNS], bos=True)
    words.chat_template = CHATML.replace("IMAGE", "[IMG]")
    config = LlavaConfig(
        vision_config={**VISION, "model_type": "pixtral", "image_size": 64, "head_dim": 8},
        text_config={**TEXT, "model_type": "mistral", "vocab_size": len(words), "head_dim": 8,
                     "sliding_window": None},
        image_token_index=words.convert_tokens_to_ids("[IMG]"),
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
        image_seq_length=1,
    )  # fmt: skip
    images = PixtralImageProcessorPil(
        patch_size={"height": 8, "width": 8}, size={"longest_edge": 64}
    )
    return LlavaForConditionalGeneration(config), Parts(
        images, words, "PixtralProcessor", patch_size=8
    )


def video_llava() -> tuple[Any, Any]:
    """Images and videos by encoders of their own, of the same shape."""
    words = tokenizer(["<image>", "<video>", *TURNS], bos=True)
    words.chat_template = CHATML.replace("IMAGE", "<image>\n")
    config = VideoLlavaConfig(
        vision_config={**VISION, "image_size": 32, "model_type": "clip_vision_model",
                       "projection_dim": 16},
        text_config={**TEXT, "model_type": "llama", "vocab_size": len(words)},
        image_token_index=words.convert_tokens_to_ids("<image>"),
        video_token_index=words.convert_tokens_to_ids("<video>"),
        image_seq_length=16,
    )  # fmt: skip
    images = VideoLlavaImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    return VideoLlavaForConditionalGeneration(config), Parts(
        images, words, "VideoLlavaProcessor", patch_size=8, num_additional_image_tokens=1,
        vision_feature_select_strategy="default",
    )  # fmt: skip


FAMILIES = {
    "llava": Tiny(llava, layout="plain"),
    "llava_onevision": Tiny(llava_onevision),
    "pixtral": Tiny(pixtral, "llava"),
    "video_llava": Tiny(video_llava),
}
