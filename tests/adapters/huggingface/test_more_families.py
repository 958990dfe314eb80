"""Further families through the adapter, against transformers' own processor and one plain pass each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from emu2eval.adapters.huggingface.adapter import HuggingFaceAdapter
from emu2eval.media import images
from emu2eval.types import Prompt

from .prompts import (
    CHOICES,
    TEXT,
    built,
    image,
    plain_inputs,
    plain_logits,
    prompt,
    request,
    without_image,
)

FAMILIES = [
    "idefics",
    "idefics2",
    "internvl",
    "kosmos2",
    "llava_onevision",
    "pixtral",
    "qwen3_vl",
    "smolvlm",
]


@pytest.fixture(params=FAMILIES)
def further(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def idefics_inputs(adapter: HuggingFaceAdapter, asked: Prompt) -> dict[str, Any]:
    """Its processor takes a list in which texts and images alternate."""
    parts = [part if isinstance(part, str) else images.load(part) for part in asked.flat()]
    return dict(adapter.opened.processor(text=parts, add_end_of_utterance_token=False))


def idefics_logits(model: Any, inputs: dict[str, Any], reply: tuple[int, ...]) -> torch.Tensor:
    ids, mask = inputs["input_ids"], inputs["image_attention_mask"]
    longer = {
        "input_ids": torch.cat([ids, torch.tensor([reply])], 1),
        "pixel_values": inputs["pixel_values"],
        "image_attention_mask": torch.cat([mask, mask[:, -1:].expand(-1, len(reply), -1)], 1),
    }
    with torch.inference_mode():
        logits: torch.Tensor = model(**longer).logits[0]
    return logits[ids.shape[1] - 1 : -1]


def kosmos2_inputs(adapter: HuggingFaceAdapter, asked: Prompt) -> dict[str, Any]:
    """Its processor takes one image, before all text; for more, its model is given them itself."""
    seen = [images.load(one) for one in asked.images()]
    encoded = adapter.opened.form.encode(asked)
    given = adapter.opened.processor(
        text="".join(part for part in asked.flat() if isinstance(part, str)),
        images=seen[0],
        return_tensors="pt",
    )
    if len(seen) == 1:
        places = given["image_embeds_position_mask"][0].bool().tolist()
        assert places == list(encoded.slots)
        for i, own, place in zip(encoded.ids, given["input_ids"][0].tolist(), places, strict=True):
            assert i == own or place
    arrays = adapter.opened.processor.image_processor(seen, return_tensors="pt")
    return {
        "input_ids": torch.tensor([encoded.ids]),
        "image_embeds_position_mask": torch.tensor([encoded.slots]),
        "pixel_values": arrays["pixel_values"],
    }


def kosmos2_logits(model: Any, inputs: dict[str, Any], reply: tuple[int, ...]) -> torch.Tensor:
    ids, mask = inputs["input_ids"], inputs["image_embeds_position_mask"]
    longer = {
        **inputs,
        "input_ids": torch.cat([ids, torch.tensor([reply])], 1),
        "image_embeds_position_mask": torch.cat([mask, torch.zeros(1, len(reply)).bool()], 1),
    }
    with torch.no_grad():
        logits: torch.Tensor = model(**longer).logits[0]
    return logits[ids.shape[1] - 1 : -1]


INPUTS = {"idefics": idefics_inputs, "kosmos2": kosmos2_inputs}
LOGITS = {"idefics": idefics_logits, "kosmos2": kosmos2_logits}


@pytest.mark.parametrize("shots", [0, 3])
def test_what_is_read_is_the_processors(
    model_file: Callable[..., str], further: str, shots: int
) -> None:
    """The ids are the processor's own, so the planned cost is the real one; choices are ranked as by one
    pass of the model over what the processor makes of all images at once."""
    adapter = built(model_file(further))
    adapter.load()
    assert adapter._inference is not None
    asked = prompt(shots, query=1)
    encoded = adapter.opened.form.encode(asked)
    plain = INPUTS.get(further, plain_inputs)(adapter, asked)
    assert list(encoded.ids) == plain["input_ids"][0].tolist()
    assert adapter.positions(request(asked)) == len(encoded) + TEXT.max_new_tokens
    assert [shown.image for shown in encoded.shown] == list(asked.images())
    question = adapter._lay_out(request(asked, CHOICES)).question
    (response,) = adapter.answer([request(asked, CHOICES)])
    assert question is not None and response.log_probs
    for reply, value in zip(question.replies, response.log_probs, strict=True):
        logits = LOGITS.get(further, plain_logits)(adapter._inference.reader.model, plain, reply)
        scores = logits.log_softmax(-1)
        total = sum(scores[i, token].item() for i, token in enumerate(reply))
        assert value == pytest.approx(total, abs=2e-3)


def test_batches_and_reuse_change_nothing(model_file: Callable[..., str], further: str) -> None:
    asked = [request(prompt(3, query)) for query in range(3)]
    asked += [request(prompt(shots, query=shots, first=shots)) for shots in (0, 2, 1)]
    asked += [request(Prompt(query=("what colour is square? Answer:",)))]
    plain, quick = built(model_file(further), reuse=False), built(model_file(further))
    plain.load()
    quick.load()
    wanted = [response.text for one in asked for response in plain.answer([one])]
    assert len(set(wanted)) > 3
    assert [response.text for response in quick.answer(asked)] == wanted
    found = [response.text for at in (0, 3, 6) for response in plain.answer(asked[at : at + 3])]
    assert found == wanted
    found = [response.text for at in (0, 3, 6) for response in quick.answer(asked[at : at + 3])]
    assert found == wanted


def test_any_image_changes_the_answer(model_file: Callable[..., str], further: str) -> None:
    """In a model that sees the latest image alone, the others reach the answer through their replies."""
    adapter = built(model_file(further))
    adapter.load()
    asked = prompt(3, query=0)
    others = [without_image(asked, number, image(77)) for number in range(3)]
    swapped = without_image(without_image(asked, 0, image(2)), 2, image(0))
    found = [
        response.log_probs
        for response in adapter.answer([request(one, CHOICES) for one in (asked, *others, swapped)])
    ]
    assert len(set(found)) == len(found)


SIZES = [(64, 48), (200, 40), (30, 90)]


@pytest.mark.parametrize(
    ("name", "options", "most"),
    [
        ("qwen3_vl", {"size": {"shortest_edge": 64, "longest_edge": 512}}, 8),
        ("qwen2_5_vl", {"size": {"shortest_edge": 64, "longest_edge": 512}}, 8),
        ("pixtral", {"size": {"longest_edge": 32}}, 16),
        ("internvl", {"crop_to_patches": False}, 4),
        ("idefics2", {"do_image_splitting": True}, 20),
        ("llava_onevision", {}, 17),
    ],
)
def test_the_planned_cost_follows_the_image_options(
    model_file: Callable[..., str], name: str, options: dict[str, Any], most: int
) -> None:
    """Planned from sizes alone, it is what the processor makes with the option, and what the encoder
    fills; `most` is what the option allows for an image."""
    adapter = built(model_file(name, image_options=options))
    usual = built(model_file(name))
    adapter.load()
    if name == "idefics2":
        # Its processor writes its text by what its image half is set to, whatever a call says.
        adapter.opened.processor.image_processor.do_image_splitting = True
    for number, size in enumerate(SIZES):
        shown = (image(number, size), "what? "), (image(9), "and? Answer:")
        asked = Prompt(query=(*shown[0], *shown[1]))
        encoded = adapter.opened.form.encode(asked)
        assert max(one.tokens for one in encoded.shown) <= most
        real = plain_inputs(adapter, asked, options)["input_ids"][0].tolist()
        assert list(encoded.ids) == real
        (response,) = adapter.answer([request(asked)])
        assert response.error is None and response.tokens_in == len(real)
        if options:
            assert adapter.positions(request(asked)) != usual.positions(request(asked))


def test_qwens_older_names_for_the_size_of_a_image(model_file: Callable[..., str]) -> None:
    asked = request(Prompt(query=(image(1, (120, 80)), "what?")))
    small, least = {"min_pixels": 64, "max_pixels": 512}, {"shortest_edge": 64}
    named = built(model_file("qwen3_vl", image_options=small))
    sized = built(model_file("qwen3_vl", image_options={"size": {**least, "longest_edge": 512}}))
    half = built(model_file("qwen3_vl", image_options={"max_pixels": 512}))
    usual = built(model_file("qwen3_vl"))
    assert named.positions(asked) == sized.positions(asked) == half.positions(asked)
    assert named.positions(asked) < usual.positions(asked)


def test_what_the_model_itself_sees_of_a_image(
    model_file: Callable[..., str], further: str
) -> None:
    """The optional hook for choosing demonstrations by likeness: each vector from its image alone."""
    adapter = built(model_file(further))
    adapter.load()
    shown = [image(1), image(2, (32, 100)), image(1)]
    found = adapter.encode_images(shown)
    assert found.shape[0] == 3 and found.dtype.name == "float32"
    assert (found[0] == found[2]).all() and abs(found[0] - found[1]).max() > 1e-3
    (alone,) = adapter.encode_images(shown[1:2])
    assert alone == pytest.approx(found[1], abs=1e-6)
