"""Tiny models whose encoders give their features in a form of their own."""

from __future__ import annotations

from typing import Any

from transformers import (
    GotOcr2ImageProcessorPil,
    Granite4VisionConfig,
    Granite4VisionForConditionalGeneration,
    GraniteDoclingConfig,
    GraniteDoclingForConditionalGeneration,
    GraniteDoclingImageProcessorPil,
    Lfm2VlConfig,
    Lfm2VlForConditionalGeneration,
    Llama4Config,
    Llama4ForConditionalGeneration,
    LlavaNextImageProcessorPil,
    Ovis2Config,
    Ovis2ForConditionalGeneration,
    Ovis2ImageProcessorPil,
    QianfanOCRConfig,
    QianfanOCRForConditionalGeneration,
)

from emu2eval.types import Prompt

from ..prompts import plain_inputs
from .common import CHATML, TEXT, TURNS, VISION, Parts, Tiny, auto, tokenizer


def ovis2() -> tuple[Any, Any]:
    """A table of visual words, of which some mark where an image and its tiles begin and end."""
    marks = ["<IMG_START>", "<IMG_GRID>", "<IMG_COL>", "<IMG_ROW>", "<IMG_END>"]
    words = tokenizer(["<image>", "<IMG_ATOM>", *marks, *TURNS])
    words.chat_template = CHATML.replace("IMAGE", "<image>\n")
    config = Ovis2Config(
        vision_config={**VISION, "image_size": 32, "vocab_size": 40, "hidden_stride": 2,
                       "num_visual_indicator_tokens": 5},
        text_config={**TEXT, "model_type": "qwen2", "vocab_size": len(words)},
        image_token_id=words.convert_tokens_to_ids("<IMG_ATOM>"),
        visual_indicator_token_ids=words.convert_tokens_to_ids(marks),
        vocab_size=len(words),
        hidden_size=32,
        tie_word_embeddings=False,
    )  # fmt: skip
    images = Ovis2ImageProcessorPil(
        size={"height": 32, "width": 32}, crop_to_patches=True, min_patches=1, max_patches=4
    )
    return Ovis2ForConditionalGeneration(config), Parts(
        images, words, "Ovis2Processor", image_seq_length=4
    )


def granite4_vision() -> tuple[Any, Any]:
    """No features for the first layer's places as such: each of several layers is given its own."""
    words = tokenizer(["<image>", *TURNS])
    words.chat_template = CHATML.replace("IMAGE", "<image>\n")
    grid = [[32, 64], [64, 32], [64, 64]]
    config = Granite4VisionConfig(
        vision_config={**VISION, "hidden_size": 64, "image_size": 32, "model_type": "siglip_vision_model",
                       "vision_use_head": False},
        text_config={**TEXT, "num_hidden_layers": 4, "vocab_size": len(words)},
        image_token_index=words.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=grid,
        vision_feature_select_strategy="full",
        downsample_rate="2/4",
        deepstack_layer_map=[[-1, 0], [0, 1]],
        spatial_vision_layer=-1,
        spatial_target_layers=[1, 2, 3, 0],
    )  # fmt: skip
    images = LlavaNextImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, image_grid_pinpoints=grid
    )
    return Granite4VisionForConditionalGeneration(config), Parts(
        images, words, "Granite4VisionProcessor", patch_size=8, downsample_rate="2/4",
        vision_feature_select_strategy="full",
    )  # fmt: skip


def granite_docling() -> tuple[Any, Any]:
    """Features of an image for several layers, with numbers beside them that the model reads."""
    rows = [f"<row_{i}_col_{j}>" for i in range(1, 7) for j in range(1, 7)]
    marks = ["<fake_token_around_image>", "<image>", "<global-img>"]
    words = tokenizer([*marks, *rows, *TURNS])
    words.chat_template = CHATML.replace("IMAGE", "<image>")
    config = GraniteDoclingConfig(
        vision_config={**VISION, "image_size": 32, "out_hidden_size": 32, "scale_factor": 2,
                       "deepstack_visual_indexes": [0, 1], "use_fine_route": False},
        text_config={**TEXT, "vocab_size": len(words), "embedding_multiplier": 1.0,
                     "logits_scaling": 1.0, "residual_multiplier": 1.0, "attention_multiplier": 0.35},
        image_token_id=words.convert_tokens_to_ids("<image>"),
        pad_token_id=0,
        tie_word_embeddings=False,
    )  # fmt: skip
    images = GraniteDoclingImageProcessorPil(size={"height": 32, "width": 32}, max_patches=4)
    return GraniteDoclingForConditionalGeneration(config), Parts(
        images, words, "GraniteDoclingProcessor", image_seq_len=4
    )


def qianfan_ocr() -> tuple[Any, Any]:
    """The template's mark of an image is another token than that of its places."""
    words = tokenizer(
        ["<img>", "</img>", "<IMG_CONTEXT>", "<image>", *TURNS],
        start_image_token="<img>",
        end_image_token="</img>",
        context_image_token="<IMG_CONTEXT>",
    )
    words.chat_template = CHATML.replace("IMAGE", "<image>\n")
    config = QianfanOCRConfig(
        vision_config={**VISION, "image_size": 32},
        text_config={**TEXT, "model_type": "qwen3", "vocab_size": len(words), "head_dim": 8},
        image_token_id=words.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
    )
    images = GotOcr2ImageProcessorPil(
        size={"height": 32, "width": 32}, crop_to_patches=True, min_patches=1, max_patches=4
    )
    return QianfanOCRForConditionalGeneration(config), Parts(
        images, words, "QianfanOCRProcessor", image_seq_length=4
    )


def lfm2_vl() -> tuple[Any, Any]:
    """Needs torchvision. Its processor hands a keyword of its own to the image half."""
    from transformers import Lfm2VlImageProcessor

    rows = [f"<|img_row_{i}_col_{j}|>" for i in range(1, 5) for j in range(1, 5)]
    words = tokenizer(
        ["<image>", "<|image_start|>", "<|image_end|>", "<|img_thumbnail|>", *rows, *TURNS],
        bos=True,
    )
    words.chat_template = "{{ bos_token }}" + CHATML.replace("IMAGE", "<image>")
    config = Lfm2VlConfig(
        vision_config={**VISION, "model_type": "siglip2_vision_model", "num_patches": 16,
                       "vision_use_head": False},
        text_config={**TEXT, "model_type": "lfm2", "vocab_size": len(words), "block_dim": 32,
                     "conv_L_cache": 3, "layer_types": ["conv", "full_attention"],
                     "block_ff_dim": 64, "block_auto_adjust_ff_dim": False},
        image_token_id=words.convert_tokens_to_ids("<image>"),
        projector_hidden_size=32,
        tie_word_embeddings=False,
    )  # fmt: skip
    images = Lfm2VlImageProcessor(
        tile_size=32, encoder_patch_size=8, max_num_patches=64, min_image_tokens=2,
        max_image_tokens=8, min_tiles=2, max_tiles=4, do_image_splitting=True,
    )  # fmt: skip
    return Lfm2VlForConditionalGeneration(config), Parts(images, words, "Lfm2VlProcessor")


def llama4() -> tuple[Any, Any]:
    """Needs torchvision. Its encoder gives no pooled output: the model projects its last state itself."""
    from transformers import Llama4ImageProcessor

    marks = ["<|image|>", "<|image_start|>", "<|image_end|>", "<|patch|>",
             "<|tile_x_separator|>", "<|tile_y_separator|>"]  # fmt: skip
    words = tokenizer([*marks, *TURNS], bos=True)
    words.chat_template = "{{ bos_token }}" + CHATML.replace("IMAGE", "<|image|>")
    config = Llama4Config(
        vision_config={**VISION, "image_size": 32, "vision_output_dim": 32, "intermediate_size": 64,
                       "projector_input_dim": 32, "projector_output_dim": 32},
        text_config={**TEXT, "vocab_size": len(words), "head_dim": 8, "intermediate_size_mlp": 64,
                     "num_hidden_layers": 4, "num_local_experts": 4, "attention_chunk_size": 8192},
        image_token_index=words.convert_tokens_to_ids("<|patch|>"),
        boi_token_index=words.convert_tokens_to_ids("<|image_start|>"),
        eoi_token_index=words.convert_tokens_to_ids("<|image_end|>"),
    )  # fmt: skip
    images = Llama4ImageProcessor(
        size={"height": 32, "width": 32}, max_patches=4, resize_to_max_canvas=False
    )
    return Llama4ForConditionalGeneration(config), Parts(
        images, words, "Llama4Processor", patch_size=8
    )


def got_ocr2() -> tuple[Any, Any]:
    """An encoder of windows; 256 places an image, which no file of the processor changes."""
    words = tokenizer(["<imgpad>", "<img>", "</img>", *TURNS])
    words.chat_template = CHATML.replace("IMAGE", "<img><imgpad></img>\n")
    model = auto(
        "got_ocr2",
        vision_config={**VISION, "image_size": 128, "patch_size": 2, "output_channels": 8, "mlp_dim": 32,
                       "window_size": 8, "global_attn_indexes": []},
        text_config={**TEXT, "model_type": "qwen2", "vocab_size": len(words)},
        image_token_index=words.convert_tokens_to_ids("<imgpad>"),
        image_seq_length=256,
    )  # fmt: skip
    images = GotOcr2ImageProcessorPil(size={"height": 128, "width": 128})
    return model, Parts(images, words, "GotOcr2Processor")


def in_a_row(adapter: Any, asked: Prompt) -> dict[str, Any]:
    """GOT-OCR's processor is given the images of one text without a list of their own."""
    return plain_inputs(adapter, asked, nested=False)


FAMILIES = {
    "got_ocr2": Tiny(got_ocr2, inputs=in_a_row),
    "ovis2": Tiny(ovis2),
    "granite4_vision": Tiny(granite4_vision),
    "granite_docling": Tiny(granite_docling),
    "qianfan_ocr": Tiny(qianfan_ocr),
    "lfm2_vl": Tiny(lfm2_vl),
    "llama4": Tiny(llama4),
}
