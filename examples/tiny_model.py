"""A LLaVA of 47,000 parameters with random weights, and squares to train it on: nothing is downloaded."""

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPImageProcessorPil,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from emu2eval import images
from emu2eval.testing import COLOURS, square

WORDS = ["<pad>", "<eos>", "<bos>", "<unk>", "<image>", "what", "colour", "is", "square", "?", "Answer",
         ":", *COLOURS]  # fmt: skip
SIZES = {
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "hidden_size": 32,
    "intermediate_size": 64,
}


def tiny_model(seed: int = 0):
    """(model, processor); an image takes 4 places of a prompt."""
    torch.manual_seed(seed)
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", 2)]
    )
    words = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>",
        unk_token="<unk>", extra_special_tokens={"image_token": "<image>"},
    )  # fmt: skip
    processor = LlavaProcessor(
        CLIPImageProcessorPil(
            size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}
        ),
        words, patch_size=8, vision_feature_select_strategy="default", num_additional_image_tokens=1,
    )  # fmt: skip
    config = LlavaConfig(
        vision_config={**SIZES, "image_size": 16, "patch_size": 8, "projection_dim": 16,
                       "model_type": "clip_vision_model"},
        text_config={**SIZES, "model_type": "llama", "vocab_size": len(WORDS), "pad_token_id": 0,
                     "eos_token_id": 1, "bos_token_id": 2, "max_position_embeddings": 512},
        image_token_index=4, image_seq_length=4, vision_feature_layer=-1,
    )  # fmt: skip
    return LlavaForConditionalGeneration(config), processor


def batches(processor, size: int = 16, seed: int = 0):
    """Endless batches: a square, the question about it and its colour, which alone counts in the loss."""
    draw = torch.Generator().manual_seed(seed)
    while True:
        numbers = torch.randint(100, 1000, (size,), generator=draw).tolist()
        colours = [COLOURS[n % len(COLOURS)] for n in numbers]
        given = processor(
            text=[f"<image>what colour is square {n}? Answer: {c} <eos>"
                  for n, c in zip(numbers, colours, strict=True)],
            images=[images.load(square(c, n)) for n, c in zip(numbers, colours, strict=True)],
            return_tensors="pt", padding=True,
        )  # fmt: skip
        labels = given["input_ids"].clone()
        labels[:, :-2] = -100  # all but the colour and the end
        yield {**given, "labels": labels}
