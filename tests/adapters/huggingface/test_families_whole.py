"""Families whose processors do more with a whole prompt than with its parts, against those processors."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from emu2eval.adapters.huggingface.adapter import HuggingFaceAdapter
from emu2eval.types import Prompt

from .families_whole import FAMILIES, TORCHVISION
from .prompts import (
    CHOICES,
    QUESTION,
    built,
    image,
    plain_inputs,
    prompt,
    request,
    without_image,
)

SHOTS = (0, 2, 4)
WANTS = pytest.mark.skipif(
    importlib.util.find_spec("torchvision") is None, reason="needs torchvision"
)


@pytest.fixture(params=[
    pytest.param(name, marks=WANTS if name in TORCHVISION else ()) for name in FAMILIES
])  # fmt: skip
def whole(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def adapter(model_file: Callable[..., str], whole: str) -> HuggingFaceAdapter:
    made = built(model_file(whole))
    made.load()
    return made


@torch.inference_mode()
def reply_scores(model: Any, plain: dict[str, Any], reply: tuple[int, ...]) -> Iterator[float]:
    """Log-probabilities of a reply's tokens by one pass over all, in which a reply is of type 1."""
    length = plain["input_ids"].shape[1]
    longer = {**plain, "input_ids": torch.cat([plain["input_ids"], torch.tensor([reply])], 1)}
    longer.pop("labels", None)
    for name in ("attention_mask", "token_type_ids", "mm_token_type_ids"):
        if name in plain:
            fill = int(name != "mm_token_type_ids")
            longer[name] = torch.cat([plain[name], torch.full((1, len(reply)), fill)], 1)
    scores = model(**longer).logits[0, length - 1 : -1].log_softmax(-1)
    for place, token in enumerate(reply):
        yield scores[place, token].item()


# PaliGemma's processor makes an array of tensors.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("shots", SHOTS)
def test_ids_answers_and_ranks_are_its_own(adapter: HuggingFaceAdapter, shots: int) -> None:
    asked = prompt(shots, query=1)
    if adapter.opened.checkpoint.config.model_type == "emu3":
        # transformers pads images of several sizes to one and lets the padding change their ids; the
        # model's own code, and this adapter, take each as it is.
        asked = replace(asked, query=(image(101), *asked.query[1:]))
    plain = plain_inputs(adapter, asked)
    encoded = adapter.opened.form.encode(asked)
    assert list(encoded.ids) == plain["input_ids"][0].tolist()
    assert adapter._inference is not None
    model = adapter._inference.reader.model
    text, ranked = adapter.answer([request(asked), request(asked, CHOICES)])
    said = model.generate(**plain, max_new_tokens=5, do_sample=False, pad_token_id=0,
                          eos_token_id=adapter._inference.reader.ends)  # fmt: skip
    own = adapter.opened.processor.tokenizer.decode(
        said[0, len(encoded) :], skip_special_tokens=True
    )
    assert text.text is not None and text.text.strip() == own.strip()
    question = adapter._lay_out(request(asked, CHOICES)).question
    assert question is not None and ranked.log_probs
    assert question.prompt.ids == encoded.ids
    for reply, value in zip(question.replies, ranked.log_probs, strict=True):
        assert value == pytest.approx(sum(reply_scores(model, plain, reply)), abs=2e-3)


def test_batches_and_reuse_change_nothing(
    adapter: HuggingFaceAdapter, model_file: Callable[..., str], whole: str
) -> None:
    asked = [request(prompt(2, query)) for query in range(2)]
    asked += [request(prompt(0, query=3)), request(Prompt(query=(QUESTION,)))]
    slow = built(model_file(whole, reuse=False))
    slow.load()
    wanted = [response.text for one in asked for response in slow.answer([one])]
    assert len(set(wanted)) > 2
    for made in (slow, adapter):
        assert [response.text for response in made.answer(asked)] == wanted
    ranks = [request(prompt(2, query), CHOICES) for query in range(2)]
    for one in ranks:
        ((first,), (second,)) = slow.answer([one]), adapter.answer([one])
        assert first.log_probs == pytest.approx(second.log_probs, abs=2e-3)


def test_every_image_counts(adapter: HuggingFaceAdapter) -> None:
    asked = prompt(3, query=0)
    others = [without_image(asked, number, image(77)) for number in range(3)]
    swapped = without_image(without_image(asked, 0, image(2)), 2, image(0))
    found = [
        response.log_probs
        for response in adapter.answer([request(one, CHOICES) for one in (asked, *others, swapped)])
    ]
    assert len(set(found)) == len(found)


def test_its_marks_in_a_text_are_letters(adapter: HuggingFaceAdapter) -> None:
    form, words = adapter.opened.form, adapter.opened.processor.tokenizer
    marks = {i: token for i, token in words.added_tokens_decoder.items() if token.special}
    named = " ".join(str(token) for token in [*marks.values()][:12])
    prompts = [Prompt(query=(image(1), f"what {text}? Answer:")) for text in ("", named)]
    plain, marked = ([i for i in form.encode(one).ids if i in marks] for one in prompts)
    assert plain == marked
    (answer,) = adapter.answer([request(prompts[1])])
    assert answer.error is None
