"""What the tiny models are made of: a tokenizer that is trained here, templates, sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedTokenizerFast

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
TURNS = ["<|im_start|>", "<|im_end|>"]


class Parts:
    """A processor's files without its class: for those that want torchvision to be built at all."""

    def __init__(self, images: Any, words: Any, name: str, video: str | None = None, **more: Any):
        self.images, self.words, self.name, self.video = images, words, name, video
        self.more = more

    def save_pretrained(self, folder: Path) -> None:
        import json

        self.words.save_pretrained(folder)
        self.images.save_pretrained(folder)
        if self.video is not None:
            named = {
                "video_processor_type": self.video,
                **self.images.to_dict(),
                "draw_on_frames": False,
            }
            for own in ("image_processor_type", "temporal_patch_size"):
                named.pop(own, None)
            (Path(folder) / "video_preprocessor_config.json").write_text(json.dumps(named))
        spec = {"processor_class": self.name, **self.more}
        (Path(folder) / "processor_config.json").write_text(json.dumps(spec))


@dataclass(frozen=True)
class Tiny:
    """A tiny model of a family. model_type: of its line in the table, where its own name is another.

    inputs, logits: how the family's processor and model are asked, where their ways are their own.
    generates: the model's own `generate` takes what the processor gives.
    """

    build: Callable[[], tuple[Any, Any]]
    model_type: str = ""
    layout: Literal["chat", "plain"] = "chat"
    inputs: Callable[..., dict[str, Any]] | None = None
    logits: Callable[..., torch.Tensor] | None = None
    generates: bool = True


def auto(model_type: str, **named: Any) -> Any:
    """The family's model, by the class that `AutoModelForImageTextToText` maps its configuration to."""
    config: Any = AutoConfig.for_model(model_type, **named)
    model: Any = AutoModelForImageTextToText
    return model.from_config(config)
