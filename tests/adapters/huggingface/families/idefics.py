"""IDEFICS and those after it."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    Idefics2Config,
    Idefics2ForConditionalGeneration,
    Idefics2ImageProcessorPil,
    Idefics2Processor,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    IdeficsConfig,
    IdeficsForVisionText2Text,
    IdeficsImageProcessorPil,
    IdeficsProcessor,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)

from emu2eval.adapters.huggingface.adapter import HuggingFaceAdapter
from emu2eval.media import images
from emu2eval.types import Prompt

from .common import CHATML, TEXT, TURNS, VISION, Parts, Tiny, tokenizer


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


def idefics3() -> tuple[Any, Any]:
    """Splits images into tiles: 64 pixels become 4 tiles of 32 and one of the whole."""
    rows = [f"<row_{i}_col_{j}>" for i in range(1, 7) for j in range(1, 7)]
    words = tokenizer(
        ["<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>", *rows,
         "<|im_start|>", "<|im_end|>"]
    )  # fmt: skip
    images = Idefics3ImageProcessorPil(
        size={"longest_edge": 64}, max_image_size={"longest_edge": 32}
    )
    processor = Idefics3Processor(
        images, words, image_seq_len=4, chat_template=CHATML.replace("IMAGE", "<image>")
    )
    config = Idefics3Config(
        vision_config={**VISION, "image_size": 32, "model_type": "idefics3_vision"},
        text_config={**TEXT, "model_type": "llama", "vocab_size": len(words)},
        scale_factor=2,
        image_token_id=words.convert_tokens_to_ids("<image>"),
        pad_token_id=0,
    )
    return Idefics3ForConditionalGeneration(config), processor


def smolvlm() -> tuple[Any, Any]:
    """Like Idefics3, with a video processor that cannot be built here."""
    _, like = idefics3()
    images, words = like.image_processor, like.tokenizer
    words.chat_template = like.chat_template
    config = SmolVLMConfig(
        vision_config={**VISION, "image_size": 32, "model_type": "smolvlm_vision"},
        text_config={**TEXT, "model_type": "llama", "vocab_size": len(words)},
        scale_factor=2,
        image_token_id=words.convert_tokens_to_ids("<image>"),
        pad_token_id=0,
    )
    return SmolVLMForConditionalGeneration(config), Parts(
        images, words, "SmolVLMProcessor", image_seq_len=4
    )


def idefics_inputs(adapter: HuggingFaceAdapter, asked: Prompt) -> dict[str, Any]:
    """Its processor takes a list in which texts and images alternate."""
    parts = [part if isinstance(part, str) else images.load(part) for part in asked.flat()]
    return dict(adapter.opened.processor(text=parts, add_end_of_utterance_token=False))


def idefics_logits(model: Any, inputs: dict[str, Any], reply: tuple[int, ...]) -> torch.Tensor:
    ids, mask = inputs["input_ids"], inputs["image_attention_mask"]
    longer = {
        "input_ids": torch.cat([ids, torch.tensor([reply])], 1),
        "pixel_values": inputs["pixel_values"],
        "image_attention_mask": torch.cat([mask, mask[:, -1:].expand(-1, len(reply), -1)], 1),
    }
    with torch.inference_mode():
        logits: torch.Tensor = model(**longer).logits[0]
    return logits[ids.shape[1] - 1 : -1]


FAMILIES = {
    "idefics": Tiny(
        idefics, layout="plain", inputs=idefics_inputs, logits=idefics_logits, generates=False
    ),
    "idefics2": Tiny(idefics2),
    "idefics3": Tiny(idefics3),
    "smolvlm": Tiny(smolvlm),
}
