"""Molmo2, whose image processor wants torchvision."""

from __future__ import annotations

from typing import Any

from .common import CHATML, TEXT, TURNS, Parts, Tiny, tokenizer

MARKS = [
    *("<im_patch>", "<im_col>", "<im_start>", "<low_res_im_start>", "<frame_start>"),
    *("<im_end>", "<frame_end>", "<im_low>"),
]


def molmo2() -> tuple[Any, Any]:
    """Every position of an image sees all images; an image becomes crops that overlap."""
    from transformers import Molmo2Config, Molmo2ForConditionalGeneration
    from transformers.models.molmo2.image_processing_molmo2 import Molmo2ImageProcessor

    words = tokenizer([*MARKS, "<|image|>", "<|video|>", *TURNS])
    words.chat_template = CHATML.replace("IMAGE", "<|image|>")
    images = Molmo2ImageProcessor(
        size={"height": 32, "width": 32}, patch_size=8, overlap_margins=[1, 1], max_crops=2
    )
    ids = dict(zip(MARKS, words.convert_tokens_to_ids(MARKS), strict=True))
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8}
    config = Molmo2Config(
        vision_config={"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
                       "image_size": [32, 32], "patch_size": 8, **heads},
        adapter_config={"vision_feature_layer": [1, 0], "hidden_size": 16, "intermediate_size": 32,
                        "text_hidden_size": 32, **heads},
        text_config={**TEXT, "vocab_size": len(words), "additional_vocab_size": 8, "head_dim": 8},
        image_start_token_id=ids["<im_start>"],
        low_res_image_start_token_id=ids["<low_res_im_start>"],
        image_end_token_id=ids["<im_end>"],
        image_patch_id=ids["<im_patch>"],
        frame_start_token_id=ids["<frame_start>"],
        frame_end_token_id=ids["<frame_end>"],
    )  # fmt: skip
    return Molmo2ForConditionalGeneration(config), Parts(images, words, "Molmo2Processor")


FAMILIES = {"molmo2": Tiny(molmo2)}
