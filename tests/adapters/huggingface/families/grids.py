"""Families whose images become as many patches as their sizes ask for, in a grid, as Qwen2-VL's do."""

from __future__ import annotations

from typing import Any

from transformers import (
    CohereCompassImageProcessorPil,
    Ernie4_5_VLMoeImageProcessorPil,
    Glm4vImageProcessorPil,
    Glm46VImageProcessorPil,
    PaddleOCRVLImageProcessorPil,
    Qwen2VLImageProcessorPil,
    VideoLlama3ImageProcessorPil,
)

from .common import CHATML, TEXT, TURNS, Parts, Tiny, auto, tokenizer

QWEN = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
GLM = (
    *("<|image|>", "<|video|>", "<|begin_of_image|>", "<|end_of_image|>"),
    *("<|begin_of_video|>", "<|end_of_video|>"),
)
SIZED = {"patch_size": 4, "merge_size": 2, "size": {"shortest_edge": 256, "longest_edge": 1600}}
PATCHES = {
    "depth": 2,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_heads": 2,
    "out_hidden_size": 32,
    "patch_size": 4,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
}
WINDOWS = {**PATCHES, "window_size": 32, "fullatt_block_indexes": [1]}
DEEP = {**PATCHES, "num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1]}
SECTIONS = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
EXPERTS = {
    "moe_intermediate_size": 16,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
}


def marked(marks: tuple[str, ...], first: str, slot: str, last: str, **named: str) -> Any:
    """A tokenizer whose template writes an image as three of its marks."""
    words = tokenizer([*marks, *TURNS], **named)
    words.chat_template = CHATML.replace("IMAGE", f"{first}{slot}{last}")
    return words


def qwen_words() -> Any:
    return marked(QWEN, "<|vision_start|>", "<|image_pad|>", "<|vision_end|>")


def qwen_ids(words: Any, *, frames: bool = True) -> dict[str, int]:
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    ids = dict(zip(names, words.convert_tokens_to_ids(list(QWEN)), strict=True))
    return ids if frames else {name: ids[name] for name in names[:2]}


def qwen2_vl() -> tuple[Any, Any]:
    words = qwen_words()
    model = auto(
        "qwen2_vl",
        vision_config={"depth": 2, "embed_dim": 16, "hidden_size": 32, "num_heads": 2, "patch_size": 4,
                       "spatial_merge_size": 2, "temporal_patch_size": 2, "mlp_ratio": 2},
        text_config={**TEXT, "vocab_size": len(words), "rope_parameters": SECTIONS},
        **qwen_ids(words),
    )  # fmt: skip
    return model, Parts(Qwen2VLImageProcessorPil(**SIZED), words, "Qwen2VLProcessor")


def qwen3_vl_moe() -> tuple[Any, Any]:
    words = qwen_words()
    text = {**TEXT, "vocab_size": len(words), "head_dim": 8, "moe_intermediate_size": 16,
            "num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2,
            "rope_parameters": {**SECTIONS, "mrope_interleaved": True}}  # fmt: skip
    model = auto("qwen3_vl_moe", vision_config=DEEP, text_config=text, **qwen_ids(words))
    return model, Parts(Qwen2VLImageProcessorPil(**SIZED), words, "Qwen3VLProcessor")


def exaone4_5() -> tuple[Any, Any]:
    """A decoder that looks back a window in some layers."""
    words = qwen_words()
    text = {
        **TEXT,
        "model_type": "exaone4",
        "vocab_size": len(words),
        "sliding_window": 48,
        "sliding_window_pattern": 2,
    }
    model = auto(
        "exaone4_5",
        vision_config={**WINDOWS, "num_key_value_heads": 1},
        text_config=text,
        **qwen_ids(words, frames=False),
    )
    return model, Parts(Qwen2VLImageProcessorPil(**SIZED), words, "Exaone4_5_Processor")


def hyperclovax() -> tuple[Any, Any]:
    words = qwen_words()
    model = auto(
        "hyperclovax_vision_v2",
        vision_config=WINDOWS,
        text_config={**TEXT, "vocab_size": len(words), "head_dim": 8, "attention_multiplier": 0.35},
        **qwen_ids(words, frames=False),
    )
    return model, Parts(Qwen2VLImageProcessorPil(**SIZED), words, "HyperCLOVAXVisionV2Processor")


def cohere_compass() -> tuple[Any, Any]:
    marks = ("<|IMAGE_PAD|>", "<|VIDEO_PAD|>", "<|VISION_START|>", "<|VISION_END|>")
    words = marked(marks, "<|VISION_START|>", "<|IMAGE_PAD|>", "<|VISION_END|>")
    image, video, first, last = words.convert_tokens_to_ids(list(marks))
    model = auto(
        "cohere_compass",
        vision_config=DEEP,
        text_config={**TEXT, "vocab_size": len(words), "head_dim": 8, "sliding_window": 48,
                     "layer_types": ["sliding_attention", "full_attention"],
                     "rope_parameters": {"sliding_attention": {**SECTIONS, "mrope_interleaved": True},
                                         "full_attention": None}},
        image_token_id=image,
        video_token_id=video,
        vision_start_token_id=first,
        vision_end_token_id=last,
    )  # fmt: skip
    return model, Parts(CohereCompassImageProcessorPil(**SIZED), words, "CohereCompassProcessor")


def video_llama_3() -> tuple[Any, Any]:
    words = qwen_words()
    model = auto(
        "video_llama_3",
        vision_config={"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
                       "num_attention_heads": 2, "patch_size": 4},
        text_config={**TEXT, "model_type": "qwen2", "vocab_size": len(words)},
        **qwen_ids(words, frames=False),
    )  # fmt: skip
    images = VideoLlama3ImageProcessorPil(
        patch_size=4, merge_size=1, size={"shortest_edge": 64, "longest_edge": 640}
    )
    return model, Parts(images, words, "VideoLlama3Processor")


def paddleocr_vl() -> tuple[Any, Any]:
    words = marked(QWEN, QWEN[2], QWEN[0], QWEN[3], image_token="<|image_pad|>")
    model = auto(
        "paddleocr_vl",
        vision_config={"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
                       "num_attention_heads": 2, "patch_size": 4, "image_size": 32,
                       "spatial_merge_size": 2},
        text_config={**TEXT, "vocab_size": len(words), "head_dim": 8, "rope_parameters": SECTIONS},
        **qwen_ids(words),
    )  # fmt: skip
    return model, Parts(PaddleOCRVLImageProcessorPil(**SIZED), words, "PaddleOCRVLProcessor")


def ernie4_5_vl_moe() -> tuple[Any, Any]:
    """Experts of its own for images' positions."""
    marks = ("<|IMAGE_PLACEHOLDER|>", "<|IMAGE_START|>", "<|IMAGE_END|>",
             "<|VIDEO_PLACEHOLDER|>", "<|VIDEO_START|>", "<|VIDEO_END|>")  # fmt: skip
    names = (*("image_token", "image_start_token", "image_end_token"),
             *("video_token", "video_start_token", "video_end_token"))  # fmt: skip
    words = marked(marks, marks[1], marks[0], marks[2], **dict(zip(names, marks, strict=True)))
    ids = words.convert_tokens_to_ids(list(marks))
    model = auto(
        "ernie4_5_vl_moe",
        vision_config={**PATCHES, "temporal_merge_size": 2},
        text_config={**TEXT, "vocab_size": len(words), "moe_intermediate_size": [16, 8], "moe_k": 2,
                     "moe_num_experts": 4, "moe_num_shared_experts": 1,
                     "rope_parameters": {**SECTIONS, "mrope_section": [1, 1, 2]},
                     "mlp_layer_types": ["dense", "sparse"]},
        **{f"{name}_id": i for name, i in zip(names, ids, strict=True)},
    )  # fmt: skip
    images = Ernie4_5_VLMoeImageProcessorPil(**SIZED)
    frames = "Ernie4_5_VLMoeVideoProcessor"
    return model, Parts(images, words, "Ernie4_5_VLMoeProcessor", frames)


def glm(model_type: str, images: Any, name: str, **text: Any) -> tuple[Any, Any]:
    words = marked(GLM, GLM[2], GLM[0], GLM[3])
    image, video, first, last, begin, end = words.convert_tokens_to_ids(list(GLM))
    model = auto(
        model_type,
        vision_config={**PATCHES, "image_size": 32},
        text_config={**TEXT, "vocab_size": len(words), "head_dim": 8,
                     "rope_parameters": {**SECTIONS, "partial_rotary_factor": 1.0}, **text},
        image_token_id=image,
        video_token_id=video,
        image_start_token_id=first,
        image_end_token_id=last,
        video_start_token_id=begin,
        video_end_token_id=end,
    )  # fmt: skip
    return model, Parts(images, words, name)


def glm4v() -> tuple[Any, Any]:
    return glm("glm4v", Glm4vImageProcessorPil(**SIZED), "Glm4vProcessor")


def glm4v_moe() -> tuple[Any, Any]:
    images = Glm4vImageProcessorPil(**SIZED)
    return glm("glm4v_moe", images, "Glm4vProcessor", **EXPERTS)


def glm46v() -> tuple[Any, Any]:
    return glm("glm46v", Glm46VImageProcessorPil(**SIZED), "Glm46VProcessor")


def glm_ocr() -> tuple[Any, Any]:
    return glm("glm_ocr", Glm46VImageProcessorPil(**SIZED), "Glm46VProcessor")


def glmga() -> tuple[Any, Any]:
    return glm("glmga", Glm46VImageProcessorPil(**SIZED), "Glm46VProcessor")


FAMILIES = {
    "qwen2_vl": Tiny(qwen2_vl),
    "qwen3_vl_moe": Tiny(qwen3_vl_moe),
    "exaone4_5": Tiny(exaone4_5),
    "hyperclovax_vision_v2": Tiny(hyperclovax),
    "cohere_compass": Tiny(cohere_compass),
    "video_llama_3": Tiny(video_llama_3),
    "paddleocr_vl": Tiny(paddleocr_vl),
    "ernie4_5_vl_moe": Tiny(ernie4_5_vl_moe),
    "glm4v": Tiny(glm4v),
    "glm4v_moe": Tiny(glm4v_moe),
    "glm46v": Tiny(glm46v),
    "glm_ocr": Tiny(glm_ocr),
    "glmga": Tiny(glmga),
}
