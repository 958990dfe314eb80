"""Tiny models of families whose processors do more with a whole prompt than with its parts."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from transformers import (
    ChameleonConfig,
    ChameleonForConditionalGeneration,
    ChameleonImageProcessorPil,
    ChameleonProcessor,
    MllamaConfig,
    MllamaForConditionalGeneration,
    MllamaImageProcessorPil,
    MllamaProcessor,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
    SiglipImageProcessorPil,
)

from emu2eval.adapters.huggingface.adapter import HuggingFaceAdapter
from emu2eval.media import images
from emu2eval.types import Prompt

from .common import CHATML, TEXT, TURNS, VISION, Tiny, tokenizer


def _paligemma(text: dict[str, Any]) -> tuple[Any, Any]:
    words = tokenizer(["<image>"], image_token="<image>")
    images = SiglipImageProcessorPil(size={"height": 32, "width": 32})
    images.image_seq_length = 16
    processor = PaliGemmaProcessor(images, words)
    config = PaliGemmaConfig(
        vision_config={**VISION, "image_size": 32, "model_type": "siglip_vision_model",
                       "vision_use_head": False},
        text_config={**TEXT, "vocab_size": len(words), "head_dim": 8, **text},
        image_token_index=words.convert_tokens_to_ids("<image>"),
        projection_dim=32,
        hidden_size=32,
    )  # fmt: skip
    return PaliGemmaForConditionalGeneration(config), processor


def paligemma() -> tuple[Any, Any]:
    """Every position of a prompt sees all the others."""
    return _paligemma({"model_type": "gemma"})


def paligemma2() -> tuple[Any, Any]:
    """The same with a decoder whose first layer has a window shorter than a prompt."""
    return _paligemma(
        {
            "model_type": "gemma2",
            "sliding_window": 24,
            "layer_types": ["sliding_attention", "full_attention"],
            "query_pre_attn_scalar": 8,
        }
    )


VQ = {
    "embed_dim": 8,
    "latent_channels": 8,
    "base_channels": 32,
    "channel_multiplier": [1, 1],
    "num_res_blocks": 1,
}


def chameleon() -> tuple[Any, Any]:
    """Images as words of the vocabulary; a separator before each reply."""
    codes = [f"IMGIMG{'ABCDEFGHIJ'[i // 10]}{'ABCDEFGHIJ'[i % 10]}Z" for i in range(32)]
    words = tokenizer(
        ["<image>", "<racm3:break>", "<eoss>", "<sep>", *codes],
        bos=True,
        sep_token="<sep>",
    )
    images = ChameleonImageProcessorPil(
        size={"shortest_edge": 8}, crop_size={"height": 8, "width": 8}
    )
    processor = ChameleonProcessor(images, words, image_seq_length=16)
    config = ChameleonConfig(
        **TEXT,
        vocab_size=len(words),
        vocabulary_map=words.get_vocab(),
        vq_config={**VQ, "num_embeddings": 32, "resolution": 8},
    )
    return ChameleonForConditionalGeneration(config), processor


def emu3() -> tuple[Any, Any]:
    """Images as words, as many as their size asks for. Its image processor wants torchvision."""
    from transformers import (
        Emu3Config,
        Emu3ForConditionalGeneration,
        Emu3ImageProcessor,
        Emu3Processor,
    )

    codes = [f"<|visual token {i:06d}|>" for i in range(32)]
    marks = {
        "image_token": "<image>",
        "boi_token": "<|image start|>",
        "eoi_token": "<|image end|>",
        "image_wrapper_token": "<|image token|>",
        "eof_token": "<|extra_201|>",
    }
    words = tokenizer([*marks.values(), "<|extra_200|>", *TURNS, *codes], **marks)
    images = Emu3ImageProcessor(min_pixels=16 * 16, max_pixels=32 * 32, spatial_factor=8)
    template = CHATML.replace("IMAGE", "<image>")
    processor = Emu3Processor(images, words, chat_template=template)
    config = Emu3Config(
        vq_config={**VQ, "codebook_size": 32, "temporal_downsample_factor": 1,
                   "channel_multiplier": [1, 1, 1, 1], "attn_resolutions": [3],
                   "hidden_size": 32},
        text_config={**TEXT, "vocab_size": len(words)},
        vocabulary_map=words.get_vocab(),
    )  # fmt: skip
    return Emu3ForConditionalGeneration(config), processor


def _minicpm(kind: str, **more: Any) -> tuple[Any, Any]:
    import transformers

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
    parts: Any = transformers
    images = parts.MiniCPMV4_6ImageProcessorPil(max_slice_nums=4, scale_resolution=48, patch_size=4)
    videos = parts.MiniCPMV4_6VideoProcessor()
    template = CHATML.replace("IMAGE", "<|image_pad|>")
    processor = getattr(parts, f"{kind}Processor")(images, videos, words, chat_template=template)
    seen = words.convert_tokens_to_ids
    ids = {
        "image_start_id": seen("<image>"),
        "image_end_id": seen("</image>"),
        "slice_start_id": seen("<slice>"),
        "slice_end_id": seen("</slice>"),
        "newline_id": words.encode("\n")[0],
    }
    config = getattr(parts, f"{kind}Config")(
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
                                "partial_rotary_factor": 1.0, **more},
        },
        insert_layer_id=0,
        image_size=48,
        image_token_id=seen("<|image_pad|>"),
        video_token_id=seen("<|video_pad|>"),
        **(ids if kind.endswith("7") else {}),
    )  # fmt: skip
    return getattr(parts, f"{kind}ForConditionalGeneration")(config), processor


def minicpmv4_6() -> tuple[Any, Any]:
    """Images cut into slices, each image with its number. Its video processor wants torchvision."""
    return _minicpm("MiniCPMV4_6")


def minicpmv4_7() -> tuple[Any, Any]:
    """The same with positions in three dimensions."""
    return _minicpm("MiniCPMV4_7", mrope_section=[2, 1, 1], mrope_interleaved=True)


def mllama() -> tuple[Any, Any]:
    """Looks aside at its images, which are up to four tiles; each is one token."""
    words = tokenizer(["<|image|>", "<|python_tag|>", *TURNS], bos=True)
    images = MllamaImageProcessorPil(size={"height": 16, "width": 16}, max_image_tiles=4)
    template = "{{ bos_token }}" + CHATML.replace("IMAGE", "<|image|>")
    processor = MllamaProcessor(images, words, chat_template=template)
    config = MllamaConfig(
        vision_config={"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
                       "num_global_layers": 1, "attention_heads": 2, "image_size": 16,
                       "patch_size": 8, "vision_output_dim": 32,
                       "intermediate_layers_indices": [1], "max_num_tiles": 4,
                       "supported_aspect_ratios": [[1, 1], [1, 2], [1, 3], [1, 4], [2, 1], [2, 2],
                                                   [3, 1], [4, 1]]},
        text_config={**TEXT, "vocab_size": len(words), "num_hidden_layers": 3,
                     "cross_attention_layers": [1]},
        image_token_index=words.convert_tokens_to_ids("<|image|>"),
    )  # fmt: skip
    model = MllamaForConditionalGeneration(config)
    for name, weight in model.named_parameters():
        if name.endswith("gate"):
            torch.nn.init.constant_(weight, 0.8)
    return model, processor


@torch.inference_mode()
def mllama_logits(model: Any, inputs: dict[str, Any], reply: tuple[int, ...]) -> torch.Tensor:
    length, mask = inputs["input_ids"].shape[1], inputs["cross_attention_mask"]
    longer = {
        **inputs,
        "input_ids": torch.cat([inputs["input_ids"], torch.tensor([reply])], 1),
        "attention_mask": torch.ones(1, length + len(reply)).long(),
        "cross_attention_mask": torch.cat([mask, mask[:, -1:].expand(-1, len(reply), -1, -1)], 1),
    }
    logits: torch.Tensor = model(**longer).logits[0]
    return logits[length - 1 : -1]


def paligemma_inputs(adapter: HuggingFaceAdapter, asked: Prompt) -> dict[str, Any]:
    """Its processor makes labels of a prompt, too, and warns of that."""
    from ..prompts import plain_inputs

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        given = plain_inputs(adapter, asked)
    return {name: value for name, value in given.items() if name != "labels"}


@torch.inference_mode()
def paligemma_logits(model: Any, inputs: dict[str, Any], reply: tuple[int, ...]) -> torch.Tensor:
    """A reply is of type 1: it sees what stands before it."""
    length, ones = inputs["input_ids"].shape[1], torch.ones(1, len(reply)).long()
    longer = {
        **inputs,
        "input_ids": torch.cat([inputs["input_ids"], torch.tensor([reply])], 1),
        "attention_mask": torch.cat([inputs["attention_mask"], ones], 1),
        "token_type_ids": torch.cat([inputs["token_type_ids"], ones], 1),
    }
    logits: torch.Tensor = model(**longer).logits[0]
    return logits[length - 1 : -1]


def emu3_inputs(adapter: HuggingFaceAdapter, asked: Prompt) -> dict[str, Any]:
    """transformers pads images of several sizes to one and lets the padding change their words; the authors'
    code, as the adapter, takes each as it is."""
    from ..prompts import plain_inputs

    make = adapter.opened.processor.image_processor
    seen = [make([images.load(one)], return_tensors="pt") for one in asked.images()]
    return {"input_ids": plain_inputs(adapter, asked)["input_ids"], "seen": seen}


@torch.inference_mode()
def emu3_logits(model: Any, inputs: dict[str, Any], reply: tuple[int, ...]) -> torch.Tensor:
    ids = torch.cat([inputs["input_ids"], torch.tensor([reply])], 1)
    words = [model.model.get_image_tokens(one["pixel_values"], one["image_sizes"])
             for one in inputs["seen"]]  # fmt: skip
    ids[ids == model.config.image_token_id] = torch.cat(words).to(ids.dtype)
    logits: torch.Tensor = model(input_ids=ids).logits[0]
    return logits[inputs["input_ids"].shape[1] - 1 : -1]


_PALIGEMMA: dict[str, Any] = {
    "model_type": "paligemma",
    "layout": "plain",
    "inputs": paligemma_inputs,
    "logits": paligemma_logits,
}
FAMILIES = {
    "chameleon": Tiny(chameleon, layout="plain"),
    "emu3": Tiny(emu3, inputs=emu3_inputs, logits=emu3_logits, generates=False),
    "minicpmv4_6": Tiny(minicpmv4_6),
    "minicpmv4_7": Tiny(minicpmv4_7),
    "mllama": Tiny(mllama, logits=mllama_logits),
    "paligemma": Tiny(paligemma, **_PALIGEMMA),
    "paligemma2": Tiny(paligemma2, **_PALIGEMMA),
}
