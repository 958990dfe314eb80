"""Searches against the ids of the authors' released code, and alone against in a batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from emu2eval.adapters.emu2.decoding import Search, beam_search, generate, greedy
from emu2eval.adapters.emu2.prefix import Prefilled
from emu2eval.errors import ModelError

from .conftest import Golden, golden_batch, golden_prompt, read

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
    if alone:
        ids = [generate(golden.model, read(golden, [p]), search)[0] for p in prompts]
    else:
        ids = generate(golden.model, read(golden, prompts), search)
    want = [[i for i in row if i != 32000] for row in golden[f"gen_{name}"].tolist()]
    assert [[1, *row] for row in ids] == want


def test_eight_prompts_of_many_lengths_as_alone(base: Golden) -> None:
    generator = torch.Generator().manual_seed(3)
    image = [32001, *[32003] * 4, 32002]
    prompts = []
    for i in range(8):
        words = torch.randint(5, 32000, (3 + 5 * i,), generator=generator).tolist()
        prompts.append(golden_prompt(base, [1, *image, *words], [i % 3]))
    search = Search(max_new_tokens=12, length_penalty=0.0)
    together = generate(base.model, read(base, prompts), search)
    assert together == [generate(base.model, read(base, [p]), search)[0] for p in prompts]
    reverse = generate(base.model, read(base, prompts[::-1]), search)
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


def test_scores_that_are_no_numbers_are_an_error(base: Golden) -> None:
    prompts = read(base, golden_batch(base))
    broken = Prefilled(prompts.segments, prompts.hidden * torch.nan)
    with pytest.raises(ModelError, match="not finite"):
        generate(base.model, broken, Search())
