"""Later families, whose images torchvision alone prepares: Nemotron Omni, Inkling, Muse, and two of OCR."""

from __future__ import annotations

from typing import Any

from .common import CHATML, TEXT, TURNS, VISION, Parts, Tiny, auto, tokenizer


def nemotron_h_omni() -> tuple[Any, Any]:
    """Layers with a state, of experts and of attention in turn."""
    import transformers

    parts: Any = transformers
    marks = ["<image>", "<img>", "</img>", "<video>", "<so_embedding>", "<so_start>", "<so_end>"]
    words = tokenizer([*marks, *TURNS])
    words.chat_template = CHATML.replace("IMAGE", "<image>")
    seen = words.convert_tokens_to_ids
    model = auto(
        "nemotron_h_omni",
        vision_config={"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
                       "patch_size": 4, "max_img_size": 64, "image_size": 64,
                       "video_temporal_patch_size": 2},
        text_config={**TEXT, "vocab_size": len(words), "head_dim": 8,
                     "layers_block_type": ["linear_attention", "moe", "full_attention", "mlp"],
                     "ssm_state_size": 8, "mamba_num_heads": 4, "mamba_head_dim": 8, "n_groups": 1,
                     "chunk_size": 16, "n_routed_experts": 4, "num_experts_per_tok": 2,
                     "moe_intermediate_size": 16, "moe_shared_expert_intermediate_size": 16},
        projector_hidden_size=32,
        vision_hidden_size=16,
        image_token_id=seen("<image>"),
        video_token_id=seen("<video>"),
        audio_token_id=seen("<so_embedding>"),
    )  # fmt: skip
    images = parts.NemotronH_Omni_Reasoning_V3ImageProcessor(
        patch_size=4, min_num_patches=16, max_num_patches=100
    )
    ears = {"feature_extractor_type": "ParakeetFeatureExtractor", "feature_size": 8}
    return model, Parts(
        images,
        words,
        "NemotronH_Omni_Reasoning_V3Processor",
        "NemotronH_Omni_Reasoning_V3VideoProcessor",
        feature_extractor=ears,
    )


INKLING = {
    **TEXT,
    "num_hidden_layers": 2,
    "head_dim": 8,
    "swa_num_attention_heads": 4,
    "swa_num_key_value_heads": 2,
    "swa_head_dim": 8,
    "sliding_window_size": 48,
    "d_rel": 4,
    "rel_extent": 64,
    "moe_intermediate_size": 16,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "layer_types": ["hybrid_sliding", "hybrid"],
}
INKLING_MARKS = ["<|unused_200054|>", "<|unused_200053|>", "<|content_image|>",
                 "<|content_audio_input|>"]  # fmt: skip


def inkling_words() -> Any:
    words = tokenizer([*INKLING_MARKS, *TURNS])
    words.chat_template = CHATML.replace("IMAGE", "<|content_image|><|unused_200054|>")
    return words


def inkling() -> tuple[Any, Any]:
    """Convolutions of keys, values and outputs beside attention in each layer."""
    import transformers

    parts: Any = transformers
    words = inkling_words()
    image, audio, image_bos, audio_bos = words.convert_tokens_to_ids(INKLING_MARKS)
    model = auto(
        "inkling_mm_model",
        vision_config={"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
                       "patch_size": 16},
        audio_config={"n_mel_bins": 8, "mel_vocab_size": 16},
        text_config={**INKLING, "vocab_size": len(words), "mlp_layer_types": ["dense", "sparse"],
                     "n_shared_experts": 1},
        image_token_id=image,
        audio_token_id=audio,
        image_bos_token_id=image_bos,
        audio_bos_token_id=audio_bos,
    )  # fmt: skip
    images = parts.InklingImageProcessor(size={"height": 16, "width": 16})
    ears = {"feature_extractor_type": "InklingFeatureExtractor"}
    return model, Parts(images, words, "InklingProcessor", feature_extractor=ears)


def inkling2() -> tuple[Any, Any]:
    import transformers

    parts: Any = transformers
    words = inkling_words()
    model = auto(
        "inkling2",
        vision_config={"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
                       "patch_size": 8, "posemb_grid_size": 8, "projection_hidden_dim": 32,
                       "text_hidden_size": 32},
        text_config={**INKLING, "vocab_size": len(words), "unpadded_vocab_size": len(words),
                     "n_layers_per_attn_res_block": 1},
        image_token_id=words.convert_tokens_to_ids("<|unused_200054|>"),
    )  # fmt: skip
    images = parts.Inkling2ImageProcessor(size={"height": 16, "width": 16})
    return model, Parts(images, words, "Inkling2Processor")


MUSE = {
    "image_token": "<|patch|>",
    "image_start_token": "<|image_start|>",
    "image_end_token": "<|image_end|>",
    "video_token": "<|video|>",
    "video_sep_token": "<|vid_frame_separator|>",
    "video_start_token": "<|vid_start|>",
    "video_end_token": "<|vid_end|>",
}
MUSE_SOUNDS = {
    "audio_token": "<|audio|>",
    "audio_start_token": "<|soft_audio_start|>",
    "audio_end_token": "<|soft_audio_end|>",
}


def _muse(kind: str, text: dict[str, Any], sounds: bool, **more: Any) -> tuple[Any, Any]:
    import transformers

    parts: Any = transformers
    marks = {**MUSE, **MUSE_SOUNDS} if sounds else MUSE
    words = tokenizer([*marks.values(), *TURNS], **marks)
    words.chat_template = CHATML.replace("IMAGE", "<|patch|>")
    seen = words.convert_tokens_to_ids
    if sounds:
        more["audio_token_id"] = seen("<|audio|>")
    model = auto(
        f"muse_{kind}",
        vision_config={"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
                       "num_attention_heads": 2, "patch_size": 4, "pos_emb_height": 8,
                       "pos_emb_width": 8, "layer_types": ["window_attention", "full_attention"]},
        text_config={**TEXT, "vocab_size": len(words), "head_dim": 8, "sliding_window": 48,
                     "layer_types": ["sliding_attention", "full_attention"], **text},
        image_token_id=seen("<|patch|>"),
        video_token_id=seen("<|video|>"),
        out_hidden_size=64,
        projector_hidden_size=32,
        **more,
    )  # fmt: skip
    images = parts.MuseGlimmerImageProcessor(patch_size=4, max_image_tokens=25)
    ears = {"feature_extractor": {"feature_extractor_type": "MuseSparkFeatureExtractor"}}
    name = f"Muse{kind.title()}Processor"
    return model, Parts(
        images, words, name, "MuseGlimmerVideoProcessor", **(ears if sounds else {})
    )


def muse_glimmer() -> tuple[Any, Any]:
    """A window in the first layer, no positions in the last; the encoder has windows, too."""
    return _muse("glimmer", {}, sounds=False)


def muse_spark() -> tuple[Any, Any]:
    text = {"moe_intermediate_size": 16, "num_local_experts": 4, "num_experts_per_tok": 2,
            "moe_hidden_size": 16, "mlp_layer_types": ["dense", "sparse"]}  # fmt: skip
    hears = {"patch_sizes": [4, 2], "hidden_sizes": [8, 16], "depths": [1, 1],
             "num_hidden_layers": 2, "out_hidden_size": 32}  # fmt: skip
    return _muse("spark", text, sounds=True, audio_config=hears)


def minicpm_ocr() -> tuple[Any, Any]:
    """MiniCPM-V 4.6 with more of an image's places."""
    import transformers

    parts: Any = transformers
    marks = {
        "image_token": "<|image_pad|>",
        "video_token": "<|video_pad|>",
        "image_start_token": "<image>",
        "image_end_token": "</image>",
        "slice_start_token": "<slice>",
        "slice_end_token": "</slice>",
        "image_id_start_token": "<image_id>",
        "image_id_end_token": "</image_id>",
    }
    words = tokenizer([*marks.values(), *TURNS], **marks)
    words.chat_template = CHATML.replace("IMAGE", "<|image_pad|>")
    model = auto(
        "minicpm_ocr",
        vision_config={**VISION, "patch_size": 4, "image_size": 48},
        text_config={
            **TEXT,
            "model_type": "qwen3_5_text",
            "vocab_size": len(words),
            "head_dim": 8,
            "layer_types": ["linear_attention", "full_attention"],
            "linear_num_value_heads": 2,
            "linear_num_key_heads": 2,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4,
                                "partial_rotary_factor": 1.0},
        },
        insert_layer_id=0,
        image_token_id=words.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=words.convert_tokens_to_ids("<|video_pad|>"),
    )  # fmt: skip
    images = parts.MiniCPMOcrImageProcessor(max_slice_nums=4, scale_resolution=48, patch_size=4)
    return model, Parts(images, words, "MiniCPMOcrProcessor", "MiniCPMOcrVideoProcessor")


SAM = {"hidden_size": 16, "output_channels": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
       "mlp_dim": 32, "window_size": 8, "patch_size": 4, "image_size": 32,
       "global_attn_indexes": [0], "downsample_channels": [8, 16]}  # fmt: skip
MOE = {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1, "n_group": 1,
       "topk_group": 1, "moe_intermediate_size": 16, "mlp_layer_types": ["dense", "sparse"]}  # fmt: skip


def unlimited_ocr() -> tuple[Any, Any]:
    """Words that are generated look back a window of themselves, and at the whole prompt."""
    import transformers

    parts: Any = transformers
    words = tokenizer(["<image>", *TURNS])
    words.chat_template = CHATML.replace("IMAGE", "<image>")
    model = auto(
        "unlimited_ocr",
        vision_config={
            "sam_config": SAM,
            "encoder_config": {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
                               "num_attention_heads": 2, "image_size": 32, "patch_size": 16},
        },
        text_config={**TEXT, **MOE, "vocab_size": len(words), "num_key_value_heads": 4,
                     "sliding_window": 2},
        image_token_id=words.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    images = parts.UnlimitedOcrImageProcessor(
        size={"height": 32, "width": 32}, tile_size=32, max_patches=4
    )
    return model, Parts(images, words, "UnlimitedOcrProcessor", patch_size=4, downsample_ratio=4)


FAMILIES = {
    "nemotron_h_omni": Tiny(nemotron_h_omni),
    "inkling_mm_model": Tiny(inkling),
    "inkling2": Tiny(inkling2),
    "muse_glimmer": Tiny(muse_glimmer),
    "muse_spark": Tiny(muse_spark),
    "minicpm_ocr": Tiny(minicpm_ocr),
    "unlimited_ocr": Tiny(unlimited_ocr),
}
