"""Families that were made to read documents."""

from __future__ import annotations

from typing import Any

from transformers import DeepseekOcr2ImageProcessorPil, HunYuanVLImageProcessorPil

from .common import TEXT, Parts, Tiny, auto
from .grids import marked


def hunyuan_vl() -> tuple[Any, Any]:
    """A newline behind each row of an image, and a token at its beginning and its end."""
    marks = ("<image>", "<image_start>", "<image_end>")
    names = ("image_token", "image_start_token", "image_end_token")
    words = marked(marks, marks[1], marks[0], marks[2], **dict(zip(names, marks, strict=True)))
    image, first, last = words.convert_tokens_to_ids(list(marks))
    model = auto(
        "hunyuan_vl",
        vision_config={"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
                       "num_attention_heads": 2, "patch_size": 4, "out_hidden_size": 32,
                       "max_image_size": 64},
        text_config={**TEXT, "vocab_size": len(words), "head_dim": 8,
                     "rope_parameters": {"rope_type": "default", "rope_theta": 1e4,
                                         "mrope_section": [1, 1, 1, 1]}},
        image_token_id=image,
        im_start_id=first,
        im_end_id=last,
        im_newline_id=3,
    )  # fmt: skip
    images = HunYuanVLImageProcessorPil(
        patch_size=4, merge_size=2, size={"shortest_edge": 256, "longest_edge": 1600}
    )
    return model, Parts(images, words, "HunYuanVLProcessor")


def deepseek_ocr2() -> tuple[Any, Any]:
    """Learnt queries for an image, and for each of its tiles where it is large."""
    words = marked(("<image>",), "", "<image>", "", image_token="<image>")
    sam = {"hidden_size": 16, "output_channels": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
           "image_size": 1024, "patch_size": 16, "window_size": 14, "global_attn_indexes": [1],
           "mlp_ratio": 2.0, "downsample_channels": [16, 32]}  # fmt: skip
    encoder = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1,
               "num_attention_heads": 2, "num_key_value_heads": 2}  # fmt: skip
    model = auto(
        "deepseek_ocr2",
        vision_config={"sam_config": sam, "encoder_config": encoder},
        text_config={**TEXT, "vocab_size": len(words), "max_position_embeddings": 8192,
                     "num_key_value_heads": 4, "n_routed_experts": 4, "n_shared_experts": 1,
                     "num_experts_per_tok": 2, "moe_intermediate_size": 16,
                     "mlp_layer_types": ["dense", "sparse"]},
        image_token_id=words.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    images = DeepseekOcr2ImageProcessorPil(
        size={"height": 768, "width": 768}, tile_size=768, crop_to_patches=True
    )
    return model, Parts(images, words, "DeepseekOcr2Processor", patch_size=16, downsample_ratio=4)


FAMILIES = {"hunyuan_vl": Tiny(hunyuan_vl), "deepseek_ocr2": Tiny(deepseek_ocr2)}
