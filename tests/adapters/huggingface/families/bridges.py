"""Tiny models whose processors put one image in front of a text: refused for few-shot prompts."""

from __future__ import annotations

from typing import Any

from transformers import BlipImageProcessorPil

from .common import CHATML, TURNS, VISION, Parts, Tiny, auto, tokenizer

QUERIES = 4
OPT = {
    "model_type": "opt", "hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "word_embed_proj_dim": 32, "max_position_embeddings": 2048,
    "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2,
}  # fmt: skip
BRIDGE = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "encoder_hidden_size": 16,
}  # fmt: skip


def bridge(model_type: str) -> tuple[Any, Any]:
    """A querying transformer, and the tokenizer of the decoder behind it."""
    words = tokenizer(["<image>", *TURNS], bos=True)
    words.chat_template = CHATML.replace("IMAGE", "<image>")
    model = auto(
        model_type,
        vision_config={**VISION, "image_size": 32},
        qformer_config={**BRIDGE, "vocab_size": len(words)},
        text_config={**OPT, "vocab_size": len(words)},
        num_query_tokens=QUERIES,
        image_token_index=words.convert_tokens_to_ids("<image>"),
    )
    return model, words


def blip_2() -> tuple[Any, Any]:
    """One image's places stand in front of the whole text, once, however many there are."""
    from transformers import Blip2Processor

    model, words = bridge("blip-2")
    images = BlipImageProcessorPil(size={"height": 32, "width": 32})
    return model, Blip2Processor(images, words, num_query_tokens=QUERIES)


def instructblip() -> tuple[Any, Any]:
    """The same, and its bridge reads the whole text beside the image."""
    from transformers import InstructBlipProcessor

    model, words = bridge("instructblip")
    images = BlipImageProcessorPil(size={"height": 32, "width": 32})
    return model, InstructBlipProcessor(images, words, words, num_query_tokens=QUERIES)


def fuyu() -> tuple[Any, Any]:
    """Its processor puts one image in front of a text, and `<s>` and the text behind it."""
    from transformers import FuyuImageProcessorPil

    words = tokenizer(["|SPEAKER|", "|NEWLINE|", "<s>", "<0x04>"])
    model = auto(
        "fuyu",
        patch_size=8,
        image_token_id=words.convert_tokens_to_ids("|SPEAKER|"),
        text_config={"model_type": "persimmon", "vocab_size": len(words), "hidden_size": 32,
                     "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
                     "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2},
    )  # fmt: skip
    images = FuyuImageProcessorPil(
        size={"height": 64, "width": 64}, patch_size={"height": 8, "width": 8}
    )
    return model, Parts(images, words, "FuyuProcessor")


FAMILIES = {
    "blip_2": Tiny(blip_2, "blip-2", layout="plain"),
    "fuyu": Tiny(fuyu, layout="plain"),
    "instructblip": Tiny(instructblip, layout="plain"),
}
