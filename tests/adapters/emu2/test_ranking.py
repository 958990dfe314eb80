"""Log-likelihoods of choices against one full pass for each."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from transformers import DynamicCache

from emu2eval.adapters.local import inference as local
from emu2eval.adapters.local.choices import Question
from emu2eval.adapters.local.encoded import Encoded
from emu2eval.adapters.local.pieces import Pieces, Stretch
from emu2eval.errors import PlanError

from .conftest import Golden, golden_batch, inference

REPLIES = ((700,), (700, 701), (9, 8, 7, 6, 5), (2000, 9, 31000))


def naive(golden: Golden, prompt: Encoded, reply: tuple[int, ...]) -> float:
    ids = torch.tensor([*prompt.ids, *reply])
    slots = torch.tensor([*prompt.slots, *[False] * len(reply)])
    encoder = inference(golden).reader.encoder
    found = encoder.several(prompt.shown)
    features = torch.cat([found[shown.key].pooled for shown in prompt.shown])
    hidden = golden.model.read(golden.model.embed(ids, slots, features)[None])[0]
    scores = golden.model.logits(hidden).log_softmax(-1)
    at = len(prompt) - 1
    return sum(scores[at + i, token].item() for i, token in enumerate(reply))


@pytest.mark.parametrize("reuse", [False, True])
def test_as_one_full_pass_for_each_choice(golden: Golden, reuse: bool) -> None:
    prompts = golden_batch(golden)
    questions = [
        Question(Pieces.whole(prompt), replies)
        for prompt, replies in zip(prompts, (REPLIES, REPLIES[1:]), strict=True)
    ]
    got = inference(golden, reuse).choices(questions)
    for values, question in zip(got, questions, strict=True):
        want = [naive(golden, question.prompt, reply) for reply in question.replies]
        assert values == pytest.approx(want, abs=2e-4)
    assert questions[0].scores(got[0], per_token=False) == got[0]
    means = tuple(value / len(reply) for value, reply in zip(got[0], REPLIES, strict=True))
    assert questions[0].scores(got[0], per_token=True) == means


def test_many_choices_are_read_in_several_goes(base: Golden) -> None:
    prompt = golden_batch(base)[0]
    replies = tuple((i, i + 1) for i in range(100, 170))
    got = inference(base).choices([Question(Pieces.whole(prompt), replies)])[0]
    assert got[69] == pytest.approx(naive(base, prompt, replies[69]), abs=1e-4)


def test_long_choices_are_read_few_at_a_time(base: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their logits would take more than is set aside for them."""
    question = Question(Pieces.whole(golden_batch(base)[0]), tuple((i, 5, 6) for i in range(7, 12)))
    together = inference(base).choices([question])[0]
    monkeypatch.setattr(local, "LOGITS", 4 * base.model.config.decoder.vocab_size * 3 * 2)
    asked = inference(base)
    rows, read = [], asked._continued

    def noted(
        prompt: Encoded, cache: DynamicCache, replies: Sequence[tuple[int, ...]]
    ) -> list[float]:
        rows.append(len(replies))
        return read(prompt, cache, replies)

    monkeypatch.setattr(asked, "_continued", noted)
    assert asked.choices([question])[0] == pytest.approx(together, abs=1e-4)
    assert rows == [2, 2, 1]


def pieces(*ids: tuple[int, ...]) -> Pieces:
    return Pieces(tuple(map(Stretch, ids)))


def test_all_choices_are_scored_from_one_place() -> None:
    # The second choice merges with the prompt's last token: 6 becomes 60.
    question = Question.of(
        pieces((1, 5, 6)), [pieces((1, 5), (6, 7)), pieces((1,), (5, 60))], ["yes", "maybe"]
    )
    assert question.prompt.ids == (1, 5)
    assert question.replies == ((6, 7), (60,))


@pytest.mark.parametrize(("choice", "ids"), [("", (1, 5)), (" ", (1, 5, 8)), ("x", (1, 5))])
def test_a_choice_without_tokens_is_refused(choice: str, ids: tuple[int, ...]) -> None:
    with pytest.raises(PlanError, match="adds no word"):
        Question.of(pieces((1, 5)), [pieces((1, 5, 7)), pieces(ids)], ["yes", choice])
