"""Tiny models of five families, built from their configurations and saved as a user would have them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPImageProcessorPil,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessorPil,
    Gemma3Processor,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)

WORDS = (
    "what colour is square? Answer: red green blue yellow black user assistant model system "
    "Is there a circle in the image? yes no Question Short What shape rectangle triangle 0 1 2 3"
)

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}IMAGE{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>"
    "{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<start_of_image>{% else %}{{ c['text'] | trim }}{% endif %}"
    "{% endfor %}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


def tokenizer(special: Sequence[str], bos: bool = False, **named: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE, trained here; special: its added tokens; named: such as pad_token."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<pad>", "<eos>", "<bos>", *special],
        show_progress=False,
    )
    core.train_from_iterator([WORDS] * 4, trainer)
    if bos:
        from tokenizers import processors

        core.post_processor = processors.TemplateProcessing(
            single="<bos> $A", special_tokens=[("<bos>", core.token_to_id("<bos>"))]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>", **named
    )


TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 2,
}
VISION = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "patch_size": 8,
}


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


def llava() -> tuple[Any, Any]:
    """A base model: no template; its tokenizer puts <bos> in front."""
    words = tokenizer(["<image>"], bos=True)
    images = CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    processor = LlavaProcessor(
        images,
        words,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    config = LlavaConfig(
        vision_config={**VISION, "image_size": 32, "model_type": "clip_vision_model",
                       "projection_dim": 16},
        text_config={**TEXT, "model_type": "llama", "vocab_size": len(words)},
        image_token_index=words.convert_tokens_to_ids("<image>"),
        image_seq_length=16,
        vision_feature_layer=-1,
    )  # fmt: skip
    return LlavaForConditionalGeneration(config), processor


def qwen2_5_vl() -> tuple[Any, Any]:
    """Three-dimensional positions; as many tokens as an image's size asks for; a video processor that
    cannot be built here."""
    words = tokenizer(
        ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>", "<|im_start|>",
         "<|im_end|>"]
    )  # fmt: skip
    seen = words.convert_tokens_to_ids
    config = Qwen2_5_VLConfig(
        vision_config={
            "depth": 2,
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_heads": 2,
            "out_hidden_size": 32,
            "patch_size": 4,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 32,
            "fullatt_block_indexes": [1],
        },
        text_config={
            **TEXT,
            "model_type": "qwen2_5_vl_text",
            "vocab_size": len(words),
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e4,
                "mrope_section": [2, 1, 1],
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
    template = CHATML.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    words.chat_template = template
    return Qwen2_5_VLForConditionalGeneration(config), Parts(images, words, "Qwen2_5_VLProcessor")


def gemma3() -> tuple[Any, Any]:
    """A sliding window shorter than the prompt; an image's positions see one another."""
    words = tokenizer(
        ["<start_of_image>", "<end_of_image>", "<image_soft_token>", "<start_of_turn>",
         "<end_of_turn>"],
        bos=True,
        boi_token="<start_of_image>",
        eoi_token="<end_of_image>",
        image_token="<image_soft_token>",
    )  # fmt: skip
    images = Gemma3ImageProcessorPil(size={"height": 32, "width": 32})
    processor = Gemma3Processor(images, words, chat_template=GEMMA, image_seq_length=4)
    seen = words.convert_tokens_to_ids
    config = Gemma3Config(
        vision_config={**VISION, "image_size": 32, "model_type": "siglip_vision_model"},
        text_config={
            **TEXT,
            "model_type": "gemma3_text",
            "vocab_size": len(words),
            "head_dim": 8,
            "sliding_window": 48,
            "layer_types": ["sliding_attention", "full_attention"],
        },
        mm_tokens_per_image=4,
        tie_word_embeddings=False,
        image_token_index=seen("<image_soft_token>"),
        boi_token_index=seen("<start_of_image>"),
        eoi_token_index=seen("<end_of_image>"),
    )
    return Gemma3ForConditionalGeneration(config), processor


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


class Parts:
    """A processor's files without its class: for those that want torchvision to be built at all."""

    def __init__(self, images: Any, words: Any, name: str, **more: Any):
        self.images, self.words, self.name, self.more = images, words, name, more

    def save_pretrained(self, folder: Path) -> None:
        import json

        self.words.save_pretrained(folder)
        self.images.save_pretrained(folder)
        spec = {"processor_class": self.name, **self.more}
        (Path(folder) / "processor_config.json").write_text(json.dumps(spec))


FAMILIES: dict[str, Callable[[], tuple[Any, Any]]] = {
    "idefics3": idefics3,
    "llava": llava,
    "qwen2_5_vl": qwen2_5_vl,
    "gemma3": gemma3,
    "smolvlm": smolvlm,
}
LAYOUT = {"llava": "plain"}


def save(name: str, folder: Path, seed: int = 0) -> Path:
    """A checkpoint of the family with random weights, its processor beside it."""
    torch.manual_seed(seed)
    model, processor = FAMILIES[name]()
    model = model.eval()
    with torch.no_grad():
        for key, weight in model.named_parameters():
            if weight.ndim > 1:
                # Large enough that answers depend on what is seen; the default start is near zero.
                weight.normal_(0.0, 0.08 if "embed" in key else 1.2 / weight.shape[-1] ** 0.5)
    model.generation_config.pad_token_id = 0
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
