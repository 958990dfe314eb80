"""Regressed visual embeddings against the authors' numbers, with and without the cache."""

from __future__ import annotations

import pytest
import torch

from .conftest import Golden, close, golden_prompt, regressed

BOI, EOI, IMAGE = 32001, 32002, 32003


def test_the_empty_prompt(golden: Golden) -> None:
    count = golden.config.n_query
    got = regressed(golden, [golden_prompt(golden, [1, BOI], [])], count)
    close(got, golden["genimg_null"], 1e-4)


# What the golden arrays were made with, as ids of LLaMA's tokenizer.
ASTRONAUT = "impressionist painting of an astronaut in a jungle"
RED_HAT = "wearing a red hat on the beach."
WORDS = {
    ASTRONAUT: [17188, 391, 20413, 310, 385, 29132, 20546, 297, 263, 432, 686, 280],
    RED_HAT: [591, 4362, 263, 2654, 3056, 373, 278, 25695, 29889],
    "and": [322],
    "a cat": [263, 6635],
}


@pytest.mark.parametrize(
    ("name", "shown", "words"),
    [("text", [], WORDS[ASTRONAUT]), ("image_text", [0], WORDS[RED_HAT])],
)
def test_a_text_and_a_image_with_a_text(
    golden: Golden, name: str, shown: list[int], words: list[int]
) -> None:
    count = golden.config.n_query
    image = [BOI, *[IMAGE] * count, EOI] if shown else []
    prompt = golden_prompt(golden, [1, *image, *words, BOI], shown)
    close(regressed(golden, [prompt], count), golden[f"genimg_{name}"], 1e-4)


def test_two_images(golden: Golden) -> None:
    count = golden.config.n_query
    image = [BOI, *[IMAGE] * count, EOI]
    prompt = golden_prompt(golden, [1, *image, *WORDS["and"], *image, BOI], [0, 1])
    close(regressed(golden, [prompt], count), golden["genimg_two_images"], 1e-4)


def test_a_row_of_a_padded_batch(golden: Golden) -> None:
    rows = [[1, *WORDS[text], BOI] for text in ("a cat", ASTRONAUT)]
    prompts = [golden_prompt(golden, row, []) for row in rows]
    got = regressed(golden, prompts, golden.config.n_query)
    close(got[:1], golden["genimg_batch"][:1], 1e-4)
    close(got[1:], golden["genimg_text"], 1e-4)


def test_a_batch_is_its_rows_and_the_cache_changes_nothing(base: Golden) -> None:
    image = [BOI, *[IMAGE] * 4, EOI]
    prompts = [
        golden_prompt(base, [1, BOI], []),
        golden_prompt(base, [1, *image, 500, 600, 700, BOI], [2]),
    ]
    together = regressed(base, prompts, 4)
    for row, prompt in zip(together, prompts, strict=True):
        close(regressed(base, [prompt], 4)[0], row, 1e-4)
    # The authors' way: the whole sequence once more for each embedding.
    ids = torch.tensor(prompts[0].ids)
    embeds = base.model.embed(ids, torch.zeros_like(ids, dtype=torch.bool), None)[None]
    slow = []
    for _ in range(4):
        hidden = base.model.read(embeds)[:, -1]
        slow.append(base.model.down(hidden))
        embeds = torch.cat([embeds, base.model.up(slow[-1])[:, None]], 1)
    close(together[:1], torch.stack(slow, 1), 1e-4)
