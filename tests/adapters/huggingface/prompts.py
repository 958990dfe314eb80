"""Prompts of drawn images, and the plain way of asking: the family's own processor, then the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from PIL import Image as PILImage

from emu2eval.adapters.huggingface.adapter import HuggingFaceAdapter
from emu2eval.identity import request_key
from emu2eval.media import images
from emu2eval.types import ChoiceOutput, Image, Output, Prompt, Request, TextOutput, Turn

QUESTION = "what colour is square? Answer:"
TEXT = TextOutput(max_new_tokens=5)
CHOICES = ChoiceOutput(("red", "blue green", "yellow"))


def image(number: int, size: tuple[int, int] = (64, 48)) -> Image:
    """No two alike, in colours and in a corner."""
    image = PILImage.new("RGB", size, (number * 37 % 256, number * 91 % 256, number * 13 % 256))
    image.paste((255, 255, number % 256), (0, 0, 8 + number % 24, 16))
    return images.from_pil(image)


def prompt(shots: int, query: int, first: int = 0) -> Prompt:
    """Fixed demonstrations from the `first` image on; a query whose length depends on its number."""
    turns = tuple(
        Turn((image(i), QUESTION), ("red" if i % 2 else "blue",))
        for i in range(first, first + shots)
    )
    return Prompt(
        query=(image(100 + query, (40 + query, 64)), "a " * query + QUESTION), turns=turns
    )


def request(asked: Prompt, output: Output = TEXT) -> Request:
    return Request(request_key(asked, output, "test"), asked, output)


def built(model: str, **settings: Any) -> HuggingFaceAdapter:
    from emu2eval.engine.models import open_model
    from emu2eval.spec.changes import Changes

    changes = Changes(model={f"settings.{key}": value for key, value in settings.items()})
    adapter = open_model(model, changes).adapter
    assert isinstance(adapter, HuggingFaceAdapter)
    return adapter


def plain_inputs(
    adapter: HuggingFaceAdapter,
    asked: Prompt,
    options: Mapping[str, Any] | None = None,
    nested: bool = True,
) -> dict[str, Any]:
    """What transformers' own documentation does: template, processor, all images at once.

    options: for the image processor. nested: the images of the one text in a list of their own.
    """
    processor = adapter.opened.processor
    mark = adapter.opened.form.expansion.placeholder
    if adapter.opened.form.layout == "plain":
        text = "".join(part if isinstance(part, str) else mark for part in asked.flat())
    else:
        messages = []
        for turn in (*asked.turns, Turn(asked.query, ())):
            for role, parts in (("user", turn.ask), ("assistant", turn.reply)):
                content = [
                    {"type": "text", "text": part} if isinstance(part, str) else {"type": "image"}
                    for part in parts
                ]
                if content:
                    messages.append({"role": role, "content": content})
        text = processor.apply_chat_template(messages, add_generation_prompt=True)
    bos = processor.tokenizer.bos_token
    shown = [images.load(one) for one in asked.images()]
    given = processor(
        text=[text],
        images=[shown] if nested else shown,
        return_tensors="pt",
        add_special_tokens=not text.startswith(bos),
        images_kwargs=dict(options or {}),
    )
    reader = adapter._inference.reader
    return {
        # Llama 4's processor gives bf16, whatever the model is.
        name: value.to(reader.model.dtype) if value.is_floating_point() else value
        for name, value in given.items()
        if name in reader._takes
    }


@torch.inference_mode()
def plain_logits(model: Any, inputs: dict[str, Any], reply: tuple[int, ...]) -> torch.Tensor:
    """One pass over the prompt and a reply; the logits that foretell the reply, (len(reply), words)."""
    ids = inputs["input_ids"]
    longer = {**inputs, "input_ids": torch.cat([ids, torch.tensor([reply])], 1)}
    for name in ("attention_mask", "token_type_ids", "mm_token_type_ids", "moe_mm_token_type_ids"):
        if name in inputs:
            fill = torch.full((1, len(reply)), int(name == "attention_mask"))
            longer[name] = torch.cat([inputs[name], fill], 1)
    logits: torch.Tensor = model(**longer).logits[0]
    return logits[ids.shape[1] - 1 : -1]


def without_image(asked: Prompt, number: int, other: Image) -> Prompt:
    """The prompt with another image in that demonstration."""
    turns = list(asked.turns)
    turns[number] = replace(turns[number], ask=(other, *turns[number].ask[1:]))
    return replace(asked, turns=tuple(turns))
