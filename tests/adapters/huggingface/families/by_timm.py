"""Tiny models with an encoder of timm, which transformers sees only beside torchvision."""

from __future__ import annotations

from typing import Any

from .common import CHATML, GEMMA, TEXT, TURNS, Parts, Tiny, auto, tokenizer


def fast_vlm() -> tuple[Any, Any]:
    """A convolutional encoder; a place for each of the last stage's cells."""
    from transformers import CLIPImageProcessorPil

    words = tokenizer(["<image>", *TURNS])
    words.chat_template = CHATML.replace("IMAGE", "<image>")
    model = auto(
        "fast_vlm",
        vision_config={"model_type": "timm_wrapper", "architecture": "test_convnext", "do_pooling": True,
                       "global_pool": "avg", "hidden_size": 64},
        text_config={**TEXT, "model_type": "qwen2", "vocab_size": len(words)},
        image_token_index=words.convert_tokens_to_ids("<image>"),
        image_seq_length=4,
    )  # fmt: skip
    images = CLIPImageProcessorPil(
        size={"height": 64, "width": 64},
        do_center_crop=False,
        crop_size={"height": 64, "width": 64},
    )
    return model, Parts(
        images, words, "LlavaProcessor", patch_size=32, vision_feature_select_strategy="full",
        image_token="<image>", num_additional_image_tokens=0,
    )  # fmt: skip


def perception_lm() -> tuple[Any, Any]:
    """A view of the whole and tiles of it; its encoder has a class token, which is dropped."""
    from transformers import PerceptionLMImageProcessor

    words = tokenizer(
        ["<|image|>", "<|video|>", *TURNS], image_token="<|image|>", video_token="<|video|>"
    )
    words.chat_template = CHATML.replace("IMAGE", "<|image|>")
    image, video = words.convert_tokens_to_ids(["<|image|>", "<|video|>"])
    model = auto(
        "perception_lm",
        vision_config={"model_type": "timm_wrapper", "architecture": "vit_pe_core_tiny_patch16_384",
                       "do_pooling": False, "hidden_size": 16,
                       "model_args": {"embed_dim": 16, "depth": 2, "num_heads": 2, "patch_size": 8,
                                      "img_size": [32, 32], "ref_feat_shape": [4, 4],
                                      "global_pool": ""}},
        text_config={**TEXT, "model_type": "llama", "vocab_size": len(words)},
        vision_use_cls_token=True,
        projector_pooling_ratio=2,
        image_token_id=image,
        video_token_id=video,
    )  # fmt: skip
    images = PerceptionLMImageProcessor(
        tile_size=32, max_num_tiles=4, size={"height": 32, "width": 32}
    )
    return model, Parts(
        images, words, "PerceptionLMProcessor", "PerceptionLMVideoProcessor", patch_size=8,
        pooling_ratio=2,
    )  # fmt: skip


def gemma3n() -> tuple[Any, Any]:
    """Four streams of hidden states; the last layers share the keys and values of others."""
    from transformers import Gemma3nAudioFeatureExtractor, Gemma3nProcessor, SiglipImageProcessorPil

    marks = ["<start_of_image>", "<end_of_image>", "<image_soft_token>",
             "<start_of_audio>", "<end_of_audio>", "<audio_soft_token>"]  # fmt: skip
    names = ("boi_token", "eoi_token", "image_token", "boa_token", "eoa_token", "audio_token")
    # The models of images and sounds have words of their own behind those of texts.
    words = tokenizer(
        [*marks, "<start_of_turn>", "<end_of_turn>"],
        bos=True,
        **dict(zip(names, marks, strict=True)),
    )
    ids = dict(zip(names, words.convert_tokens_to_ids(marks), strict=True))
    size = len(words)
    model = auto(
        "gemma3n",
        vision_config={"architecture": "test_convnext", "hidden_size": 64, "vocab_size": 8,
                       "vocab_offset": size},
        audio_config={"hidden_size": 16, "vocab_size": 8, "vocab_offset": size + 8, "input_feat_size": 16,
                      "conf_num_attention_heads": 2, "conf_num_hidden_layers": 1,
                      "sscp_conv_channel_size": [4, 4]},
        text_config={**TEXT, "vocab_size": size, "head_dim": 8, "num_hidden_layers": 4,
                     "sliding_window": 48, "num_kv_shared_layers": 2, "laurel_rank": 4,
                     "layer_types": ["sliding_attention", "full_attention"] * 2,
                     "activation_sparsity_pattern": [0.5, 0.0, 0.0, 0.0],
                     "vocab_size_per_layer_input": size, "hidden_size_per_layer_input": 8},
        vision_soft_tokens_per_image=4,
        audio_soft_tokens_per_image=4,
        **{f"{name}_id": number for name, number in ids.items()},
    )  # fmt: skip
    processor = Gemma3nProcessor(
        Gemma3nAudioFeatureExtractor(feature_size=16),
        SiglipImageProcessorPil(size={"height": 64, "width": 64}),
        words,
        chat_template=GEMMA.replace("<start_of_image>", "<image_soft_token>"),
        audio_seq_length=4,
        image_seq_length=4,
    )
    return model, processor


FAMILIES = {
    "fast_vlm": Tiny(fast_vlm),
    "gemma3n": Tiny(gemma3n),
    "perception_lm": Tiny(perception_lm),
}
