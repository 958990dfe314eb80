"""Tiny models of further families, each with what is particular to it."""

from __future__ import annotations

from typing import Any

from transformers import (
    CLIPImageProcessorPil,
    GotOcr2ImageProcessorPil,
    Idefics2Config,
    Idefics2ForConditionalGeneration,
    Idefics2ImageProcessorPil,
    Idefics2Processor,
    IdeficsConfig,
    IdeficsForVisionText2Text,
    IdeficsImageProcessorPil,
    IdeficsProcessor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    Kosmos2Config,
    Kosmos2ForConditionalGeneration,
    Kosmos2Processor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessorPil,
    PixtralImageProcessorPil,
    Qwen2VLImageProcessorPil,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from .families import CHATML, TEXT, VISION, Parts, tokenizer

TURNS = ["<|im_start|>", "<|im_end|>"]


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


def qwen3_vl() -> tuple[Any, Any]:
    """Features of an image for several layers; positions in three dimensions."""
    words = tokenizer(
        ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>", *TURNS]
    )
    words.chat_template = CHATML.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    seen = words.convert_tokens_to_ids
    config = Qwen3VLConfig(
        vision_config={
            "depth": 2,
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_heads": 2,
            "out_hidden_size": 32,
            "patch_size": 4,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0, 1],
        },
        text_config={
            **TEXT,
            "model_type": "qwen3_vl_text",
            "vocab_size": len(words),
            "head_dim": 8,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e4,
                "mrope_section": [2, 1, 1],
                "mrope_interleaved": True,
            },
        },
        image_token_id=seen("<|image_pad|>"),
        video_token_id=seen("<|video_pad|>"),
        vision_start_token_id=seen("<|vision_start|>"),
        vision_end_token_id=seen("<|vision_end|>"),
    )
    images = Qwen2VLImageProcessorPil(
        patch_size=4, merge_size=2, size={"shortest_edge": 256, "longest_edge": 1600}
    )
    return Qwen3VLForConditionalGeneration(config), Parts(images, words, "Qwen3VLProcessor")


def internvl() -> tuple[Any, Any]:
    """Cuts images into tiles unless it is told not to."""
    words = tokenizer(
        ["<img>", "</img>", "<IMG_CONTEXT>", "<video>", *TURNS],
        start_image_token="<img>",
        end_image_token="</img>",
        context_image_token="<IMG_CONTEXT>",
        video_token="<video>",
    )
    words.chat_template = CHATML.replace("IMAGE", "<IMG_CONTEXT>\n")
    config = InternVLConfig(
        vision_config={**VISION, "image_size": 32, "model_type": "internvl_vision"},
        text_config={**TEXT, "model_type": "qwen2", "vocab_size": len(words)},
        image_token_id=words.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
        tie_word_embeddings=False,
    )
    images = GotOcr2ImageProcessorPil(
        size={"height": 32, "width": 32}, crop_to_patches=True, min_patches=1, max_patches=4
    )
    return InternVLForConditionalGeneration(config), Parts(
        images, words, "InternVLProcessor", image_seq_length=4
    )


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


def idefics2() -> tuple[Any, Any]:
    """Resamples each crop of an image to as many tokens."""
    words = tokenizer(["<fake_token_around_image>", "<image>", "<end_of_utterance>", *TURNS])
    images = Idefics2ImageProcessorPil(
        size={"shortest_edge": 24, "longest_edge": 48}, do_image_splitting=False
    )
    processor = Idefics2Processor(
        images, words, image_seq_len=4, chat_template=CHATML.replace("IMAGE", "<image>")
    )
    config = Idefics2Config(
        vision_config={**VISION, "image_size": 48, "model_type": "idefics2_vision"},
        perceiver_config={
            "hidden_size": 32,
            "resampler_n_latents": 4,
            "resampler_depth": 1,
            "resampler_n_heads": 2,
            "resampler_head_dim": 8,
            "num_key_value_heads": 1,
            "model_type": "idefics2_perceiver",
        },
        text_config={**TEXT, "model_type": "mistral", "vocab_size": len(words), "head_dim": 8},
        image_token_id=words.convert_tokens_to_ids("<image>"),
    )
    return Idefics2ForConditionalGeneration(config), processor


def idefics() -> tuple[Any, Any]:
    """Looks aside at its images; each is one token."""
    words = tokenizer(["<fake_token_around_image>", "<image>"], bos=True)
    images = IdeficsImageProcessorPil(image_size=32)
    config = IdeficsConfig(
        vocab_size=len(words),
        **{k: v for k, v in TEXT.items() if k != "num_key_value_heads"},
        alpha_initializer="ones",
        cross_layer_interval=2,
        use_resampler=True,
        qk_layer_norms=True,
        vision_config={"embed_dim": 16, "image_size": 32, "patch_size": 8, "intermediate_size": 32,
                       "num_hidden_layers": 2, "num_attention_heads": 2},
        perceiver_config={"resampler_n_latents": 4, "resampler_depth": 1, "resampler_n_heads": 2,
                          "resampler_head_dim": 8, "use_resampler": True},
    )  # fmt: skip
    return IdeficsForVisionText2Text(config), IdeficsProcessor(images, words, image_size=32)


def kosmos2() -> tuple[Any, Any]:
    """One image for transformers, several for the model; positions begin behind padding's id."""
    words = tokenizer(["<unk>", *[f"<unused{i}>" for i in range(8)]], bos=True, unk_token="<unk>")
    images = CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    processor = Kosmos2Processor(images, words, 4)
    config = Kosmos2Config(
        vision_config={**VISION, "image_size": 32},
        text_config={
            "vocab_size": len(words),
            "embed_dim": 32,
            "layers": 2,
            "ffn_dim": 64,
            "attention_heads": 4,
            "pad_token_id": 0,
            "eos_token_id": 1,
            "bos_token_id": 2,
        },
        latent_query_num=64,
    )
    return Kosmos2ForConditionalGeneration(config), processor


FAMILIES = {
    "pixtral": pixtral,
    "qwen3_vl": qwen3_vl,
    "internvl": internvl,
    "llava_onevision": llava_onevision,
    "idefics2": idefics2,
    "idefics": idefics,
    "kosmos2": kosmos2,
}
PLAIN = ("idefics", "kosmos2")
