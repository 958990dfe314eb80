"""Searches against the ids of the authors' released code, and alone against in a batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from emu2eval.adapters.emu2.decoding import beam_search, greedy
from emu2eval.adapters.local.finite import check_scores
from emu2eval.adapters.local.search import Found, Search
from emu2eval.errors import ModelError

from .conftest import Golden, golden_batch, golden_prompt, inference

SETTINGS = ("beam5_default", "beam5_long", "beam5_lp2", "beam5_lp0", "beam3_rep", "greedy")


def search_of(golden: Golden, name: str) -> Search:
    given = golden.meta["gen_args"][name]
    return Search(
        max_new_tokens=given["max_new_tokens"],
        min_new_tokens=given["min_length"] - 1,
        beams=given["num_beams"],
        length_penalty=given["length_penalty"],
        repetition_penalty=given["repetition_penalty"],
    )


@pytest.mark.parametrize("alone", [False, True], ids=["batch", "alone"])
@pytest.mark.parametrize("name", SETTINGS)
def test_golden_ids(golden: Golden, name: str, alone: bool) -> None:
    prompts = golden_batch(golden)
    search = search_of(golden, name)
    asked = inference(golden)
    found = (
        [asked.texts([p], search)[0] for p in prompts] if alone else asked.texts(prompts, search)
    )
    rows = golden[f"gen_{name}"].tolist()
    want = [[i for i in row[1:] if i != 32000] for row in rows]
    assert [[*one.ids, *([2] if one.ended else [])] for one in found] == want


def test_eight_prompts_of_many_lengths_as_alone(base: Golden) -> None:
    generator = torch.Generator().manual_seed(3)
    image = [32001, *[32003] * 4, 32002]
    prompts = []
    for i in range(8):
        words = torch.randint(5, 32000, (3 + 5 * i,), generator=generator).tolist()
        prompts.append(golden_prompt(base, [1, *image, *words], [i % 3]))
    search = Search(max_new_tokens=12, beams=5, length_penalty=0.0)
    asked = inference(base)
    together = asked.texts(prompts, search)
    assert together == [asked.texts([p], search)[0] for p in prompts]
    reverse = asked.texts(prompts[::-1], search)
    assert reverse[::-1] == together


def scripted(*rows: dict[int, float]) -> Any:
    """Logits of a vocabulary of eight, the same for every row, step by step."""
    steps = [torch.full((8,), -20.0) for _ in rows]
    for logits, row in zip(steps, rows, strict=True):
        for token, value in row.items():
            logits[token] = value
    rest = iter(steps[1:])

    def advance(tokens: list[int], parents: list[int]) -> Any:
        return next(rest).expand(len(tokens), -1)

    return steps[0][None], advance


def test_the_end_is_blocked_until_min_new_tokens() -> None:
    rows = [{2: 5.0, 3: 1.0}] * 4
    assert greedy(*scripted(*rows), Search(4, min_new_tokens=2)) == [[3, 3, 2]]
    assert greedy(*scripted(*rows), Search(4)) == [[2]]
    blocked = beam_search(*scripted(*rows), Search(4, min_new_tokens=2, beams=2))
    assert blocked == [[3, 3, 2]]


def test_a_negative_length_penalty_prefers_short_answers() -> None:
    rows = [{2: 1.0, 3: 2.0}, {2: 3.0}, {2: 3.0}]
    assert beam_search(*scripted(*rows), Search(3, beams=2, length_penalty=-3.0)) == [[2]]
    assert beam_search(*scripted(*rows), Search(3, beams=2, length_penalty=2.0)) == [[3, 2]]


def test_repetition_is_penalised() -> None:
    rows = [{3: 2.0, 4: 1.5}] * 3
    assert greedy(*scripted(*rows), Search(3, repetition_penalty=2.0)) == [[3, 4, 3]]


@pytest.mark.parametrize(
    "search",
    [
        Search(8),
        Search(8, repetition_penalty=1.5),
        Search(8, min_new_tokens=4, repetition_penalty=1.5),
        Search(8, beams=3, repetition_penalty=1.5),
        Search(8, min_new_tokens=2, beams=3, length_penalty=-1.0),
    ],
)
def test_rows_that_end_at_different_steps_are_those_alone(search: Search) -> None:
    """Scores by the row's last token, so that row i of the batch ends after i tokens or so."""
    words = 12
    table = torch.randn(words, words, generator=torch.Generator().manual_seed(5))
    # The later a word, the likelier the end behind it.
    table[:, 2] = torch.linspace(-3, 3, words)
    first = torch.randn(6, words, generator=torch.Generator().manual_seed(6))

    def advance(tokens: list[int], parents: list[int]) -> Any:
        return table[tokens]

    run = greedy if search.beams == 1 else beam_search
    together = run(first, advance, search)
    assert together == [run(row[None], advance, search)[0] for row in first]
    assert len({len(row) for row in together}) > 2


def plainly(first: torch.Tensor, table: torch.Tensor, search: Search) -> list[int]:
    """A beam search for one prompt in lists and numbers, its words scored by the word before."""
    running: list[tuple[float, list[int]]] = [(0.0, []), *[(-1e9, [])] * (search.beams - 1)]
    ended: list[tuple[float, list[int]]] = []

    def end(total: float, ids: list[int]) -> None:
        one = (total / (1 + len(ids)) ** search.length_penalty, ids)
        worst = min(ended, default=None, key=lambda kept: kept[0])
        if len(ended) == search.beams and worst is not None:
            if one[0] <= worst[0]:
                return
            ended.remove(worst)
        ended.append(one)

    for step in range(search.max_new_tokens):
        logits = torch.stack([table[ids[-1]] if ids else first for _, ids in running])
        sums = torch.tensor([total for total, _ in running])
        best, places = (logits.log_softmax(-1) + sums[:, None]).flatten().topk(2 * search.beams)
        following = []
        for rank, (total, place) in enumerate(zip(best.tolist(), places.tolist(), strict=True)):
            ids, token = running[place // len(first)][1], place % len(first)
            if token != 2:
                following.append((total, [*ids, token]))
            elif rank < search.beams:
                end(total, ids)
        running = following[: search.beams]
        possible = best[0].item() / (2 + step) ** search.length_penalty
        if len(ended) == search.beams and min(score for score, _ in ended) >= possible:
            break
    else:
        for total, ids in running:
            end(total, ids)
    ids = max(reversed(ended), key=lambda kept: kept[0])[1]
    return ids if len(ids) == search.max_new_tokens else [*ids, 2]


@pytest.mark.parametrize("rounded", [None, 2], ids=["", "many ties"])
def test_beams_are_those_of_a_plain_search(rounded: int | None) -> None:
    for seed in range(40):
        random = torch.Generator().manual_seed(seed)
        table = torch.randn(13, 12, generator=random) * 2
        table[:, 2] += seed % 4 - 1
        if rounded is not None:
            table = (table * rounded).round() / rounded
        search = Search((1, 4, 7)[seed % 3], 0, 2 + seed % 3, (-3.0, -1.0, 0.0, 1.0)[seed % 4])
        table, first = table[:12], table[10:]
        found = beam_search(first, lambda tokens, _, table=table: table[tokens], search)
        assert found == [plainly(row, table, search) for row in first]


def test_a_row_that_ended_takes_no_more_part() -> None:
    scores = torch.full((2, 8), -9.0)
    scores[0, 2] = 5
    scores[1, 3], scores[1, 4], scores[1, 5] = 5, 4.9, 4.8
    search = Search(4, beams=1, repetition_penalty=1.5)
    assert greedy(scores, lambda tokens, parents: scores, search) == [[2], [3, 4, 5, 3]]


def test_an_answer_ends_before_what_ends_it() -> None:
    assert Found.cut([3, 4, 2, 0], [2]) == Found((3, 4), ended=True)
    assert Found.cut([3, 4], [2]) == Found((3, 4), ended=False)


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_scores_that_are_no_numbers_are_an_error(base: Golden, wrong: float) -> None:
    check_scores(torch.tensor([[1.0, -torch.inf]]))
    with pytest.raises(ModelError, match="contain NaN"):
        check_scores(torch.tensor([[1.0, wrong]]))
    asked = inference(base)
    head = base.model.decoder.lm.lm_head.register_forward_hook(lambda *given: given[-1] * wrong)
    try:
        with pytest.raises(ModelError, match="contain NaN"):
            asked.texts(golden_batch(base), Search(4))
    finally:
        head.remove()
