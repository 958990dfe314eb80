"""What a family must show to be called working: equal to its own processor and model, whatever is reused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch

from emu2eval.adapters.huggingface.adapter import HuggingFaceAdapter
from emu2eval.adapters.local.search import Found, Search
from emu2eval.types import ChoiceOutput, Prompt, Request, Turn

from .families import Tiny
from .prompts import CHOICES, TEXT, image, plain_inputs, plain_logits, prompt, request

SHOTS = (0, 2, 4)
NEAR = 2e-3
"""Nats by which the log-probability of a choice may differ."""


def differences(built: Callable[..., HuggingFaceAdapter], tiny: Tiny) -> list[str]:
    """What the adapter does otherwise than the family's own processor and model; [] = it is equal.

    built: an adapter of the family with the settings that it is given.
    """
    quick, plain = built(), built(reuse=False)
    quick.load()
    plain.load()
    found = [one for shots in SHOTS for one in _own(quick, tiny, shots)]
    found += [*_together(quick, plain), *_every_image(quick), *_literal(quick)]
    return found


def _own(adapter: HuggingFaceAdapter, tiny: Tiny, shots: int) -> Iterator[str]:
    """Ids, greedy words and ranked choices, against the family's processor and model alone."""
    asked = prompt(shots, query=shots)
    encoded = adapter.opened.form.encode(asked)
    inputs = (tiny.inputs or plain_inputs)(adapter, asked)
    ids = inputs["input_ids"][0].tolist()
    if list(encoded.ids) != ids:
        yield f"{shots} shots: other ids than the processor's, {len(encoded)} and {len(ids)}"
        return
    if adapter.positions(request(asked)) != len(ids) + TEXT.max_new_tokens:
        yield f"{shots} shots: planned with another length than it has"
    if [shown.image for shown in encoded.shown] != list(asked.images()):
        yield f"{shots} shots: other images than the prompt's"
    inference = adapter._inference
    assert inference is not None
    search = Search(TEXT.max_new_tokens)
    (said,) = inference.texts([encoded], search)
    own = _greedy(adapter, tiny, inputs, search.max_new_tokens)
    if list(said.ids) != own:
        yield f"{shots} shots: says {list(said.ids)}, the model's own generate {own}"
    question = adapter._lay_out(request(asked, CHOICES)).question
    (ranked,) = adapter.answer([request(asked, CHOICES)])
    if question is None or ranked.log_probs is None:
        yield f"{shots} shots: ranks nothing ({ranked.error})"
        return
    for reply, value in zip(question.replies, ranked.log_probs, strict=True):
        total = _scored(adapter, tiny, inputs, reply)
        if abs(value - total) > NEAR:
            yield f"{shots} shots: a choice of {value:.4f} nats has {total:.4f} in a plain pass"


def _greedy(
    adapter: HuggingFaceAdapter, tiny: Tiny, inputs: dict[str, Any], most: int
) -> list[int]:
    reader = adapter._inference.reader
    if tiny.generates:
        with torch.inference_mode():
            out = reader.model.generate(
                **inputs, do_sample=False, max_new_tokens=most, eos_token_id=reader.ends,
                pad_token_id=reader.pad,
            )  # fmt: skip
        return list(Found.cut(out[0, inputs["input_ids"].shape[1] :].tolist(), reader.ends).ids)
    said: tuple[int, ...] = ()
    while len(said) < most and not set(said) & set(reader.ends):
        # One word more than is known, whose own logits are not looked at.
        logits = (tiny.logits or plain_logits)(reader.model, inputs, (*said, 0))
        said += (int(logits[-1].argmax()),)
    return list(Found.cut(list(said), reader.ends).ids)


def _scored(
    adapter: HuggingFaceAdapter, tiny: Tiny, inputs: dict[str, Any], reply: tuple[int, ...]
) -> float:
    logits = (tiny.logits or plain_logits)(adapter._inference.reader.model, inputs, reply)
    scores = logits.log_softmax(-1)
    return sum(scores[place, token].item() for place, token in enumerate(reply))


def _together(quick: HuggingFaceAdapter, plain: HuggingFaceAdapter) -> Iterator[str]:
    """One by one without reuse, and four at a time with it."""
    prompts = [prompt(2, 0), prompt(2, 1), prompt(0, 2), prompt(4, 3, first=1)]
    prompts.append(Prompt(query=("what colour is square? Answer:",)))
    texts = [request(one) for one in prompts]
    ranked = [request(one, CHOICES) for one in prompts[:4]]
    wanted = [plain.answer([one])[0] for one in texts]
    if len({one.text for one in wanted}) < 2:
        yield "every prompt has the same answer"
    for name, adapter in (("with reuse", quick), ("without reuse", plain)):
        for size in (4, 1) if adapter is quick else (4,):
            said = [
                one for at in range(0, 5, size) for one in adapter.answer(texts[at : at + size])
            ]
            if [(one.text, one.error) for one in said] != [(one.text, None) for one in wanted]:
                yield f"other answers {name} in batches of {size}"
    turns = prompts[0].turns
    alike = [request(Prompt((image(number), "what colour?"), turns)) for number in (105, 106)]
    one_by_one = [plain.answer([one])[0].text for one in alike]
    if [one.text for one in quick.answer(alike)] != one_by_one:
        yield "other answers in a batch of one length with reuse"
    nats = [plain.answer([one])[0].log_probs or () for one in ranked]
    for number, (own, other) in enumerate(zip(nats, quick.answer(ranked), strict=True)):
        far = [abs(x - y) for x, y in zip(own, other.log_probs or (), strict=False)]
        if not own or len(far) != len(own) or max(far) > NEAR:
            yield f"prompt {number}: ranked otherwise with reuse in a batch"
    beams = [request(one, replace(TEXT, beams=2)) for one in prompts[:2]]
    alone = [plain.answer([one])[0] for one in beams]
    if [one.text for one in quick.answer(beams)] != [one.text for one in alone] or alone[0].error:
        yield "other beams with reuse in a batch"


def _every_image(adapter: HuggingFaceAdapter) -> Iterator[str]:
    """Each image exchanged for another, and two of them for one another; the scores must show it."""
    asked = prompt(3, query=0)
    shown = list(asked.images())
    swapped = [shown[2], shown[1], shown[0], shown[3]]
    others = [[*shown[:at], image(77), *shown[at + 1 :]] for at in range(4)]
    variants = [asked, *(_with(asked, seen) for seen in (swapped, *others))]
    found = adapter.answer([request(one, CHOICES) for one in variants])
    seen = {response.log_probs for response in found}
    if len(seen) < len(found):
        yield f"of {len(found)} prompts that differ in their images only {len(seen)} are told apart"


def _with(asked: Prompt, shown: list[Any]) -> Prompt:
    turns = tuple(
        Turn((one, *turn.ask[1:]), turn.reply)
        for turn, one in zip(asked.turns, shown[:-1], strict=True)
    )
    return replace(asked, turns=turns, query=(shown[-1], *asked.query[1:]))


def _literal(adapter: HuggingFaceAdapter) -> Iterator[str]:
    """The family's own marks in a text of the data are characters, and neither images nor ends."""
    form = adapter.opened.form
    words = form.processor.tokenizer
    marks = f"{form.expansion.placeholder}{words.convert_ids_to_tokens(form.slot)}<eos>"

    def with_text(text: str) -> Request:
        ask = (f"{text} what? Answer:",)
        turns = (Turn((image(2), *ask), ("red",)),)
        return request(Prompt(query=(image(1), *ask), turns=turns), ChoiceOutput(("red", "blue")))

    clean, marked = (form.encode(with_text(text).prompt) for text in ("x", marks))
    if sum(clean.slots) != sum(marked.slots) or len(marked.shown) != 2:
        yield "a mark in a text opens places for an image"
    if clean.ids.count(words.eos_token_id) != marked.ids.count(words.eos_token_id):
        yield "a mark in a text ends a turn"
    if words.decode(marked.ids).count("<eos> what? Answer:") != 2:
        yield "a mark in a text is lost"
    (found,) = adapter.answer([with_text(marks)])
    if found.error is not None:
        yield f"a mark in a text is refused ({found.error})"
