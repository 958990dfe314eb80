"""Drawn tokens: kept as transformers' own warpers keep them, drawn with the probabilities that they say."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from emu2eval.adapters.emu2.settings import Emu2Settings
from emu2eval.adapters.huggingface.settings import HuggingFaceSettings
from emu2eval.adapters.local.sampling import Draws, passed, shares, uniform
from emu2eval.adapters.local.search import Sampling
from emu2eval.adapters.local.settings import LocalSettings
from emu2eval.errors import ConfigError


@pytest.mark.parametrize("temperature", [0.3, 1.0, 1.7])
@pytest.mark.parametrize("top_k", [None, 1, 7, 10_000])
@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.9, 0.999, 1.0])
def test_what_is_kept_is_what_transformers_keeps(
    temperature: float, top_k: int | None, top_p: float
) -> None:
    torch.manual_seed(3)
    # In float64, where no two sums are so near a bound that their order decides.
    scores = torch.randn(20, 300, dtype=torch.float64) * 3
    scores[3, :290] = -torch.inf
    warped = TemperatureLogitsWarper(temperature)(None, scores)
    warped = warped if top_k is None else TopKLogitsWarper(top_k)(None, warped)
    warped = TopPLogitsWarper(top_p)(None, warped)
    wanted = warped.softmax(-1).numpy()
    for row in range(20):
        own = shares(scores[row].numpy(), Sampling(temperature, top_p, top_k))
        assert ((own > 0) == (wanted[row] > 0)).all()
        np.testing.assert_allclose(own / own.sum(), wanted[row], rtol=0, atol=1e-12)


def test_words_are_drawn_where_the_sums_pass_a_number() -> None:
    known = np.array([0.0, 0.25, 0.0, 0.5, 0.25, 0.0])
    numbers = [0.0, 0.2499, 0.25, 0.7499, 0.75, 1 - 2**-53]
    assert [passed(known, number) for number in numbers] == [1, 1, 3, 3, 4, 4]
    # What is left after a restriction adds up to less than one.
    assert [passed(known * 0.1, number) for number in numbers] == [1, 1, 3, 3, 4, 4]


def test_the_numbers_never_change() -> None:
    """They are made of the key: other ones would be other answers to stored requests."""
    assert uniform(0, "a key", 0) == 0.28057073562612034
    assert uniform(0, "a key", 1) == 0.16628041369354996
    assert uniform(1, "a key", 0) == 0.2646381481882325
    many = np.array([uniform(0, str(key), 5) for key in range(4000)])
    counts, _ = np.histogram(many, 20, (0, 1))
    assert ((counts - 200) ** 2 / 200).sum() < 43.8  # 19 degrees of freedom, 0.1 %


def test_frequencies_are_the_probabilities() -> None:
    torch.manual_seed(5)
    scores = (torch.randn(12) * 2).numpy().astype(np.float64)
    sampling = Sampling(1.3, 0.95, 8)
    said = shares(scores, sampling)
    said /= said.sum()
    drawn = [passed(said, uniform(0, str(key), 0)) for key in range(8000)]
    counts = np.bincount(drawn, minlength=12)
    kept = said > 0
    assert kept.sum() < 8 and not counts[~kept].any()
    off = (counts[kept] - 8000 * said[kept]) ** 2 / (8000 * said[kept])
    assert off.sum() < 24.3  # at most 7 degrees of freedom, 0.1 %


def test_a_row_that_ended_draws_nothing_more_and_moves_no_other() -> None:
    torch.manual_seed(1)
    scores = [torch.randn(3, 9) * 2 for _ in range(6)]
    keys, sampling = ["a", "b", "c"], Sampling(1.0, 0.9)
    together = Draws(sampling, keys, [4])
    said = list(zip(*(together(step) for step in scores), strict=True))
    for row, key in enumerate(keys):
        alone = Draws(sampling, [key], [4])
        assert [alone(step[row : row + 1])[0] for step in scores] == list(said[row])
        if 4 in said[row]:
            assert set(said[row][said[row].index(4) :]) == {4}
    assert any(4 in row for row in said)


def test_many_rows_of_a_large_vocabulary_are_drawn_side_by_side() -> None:
    scores = torch.randn(5, 12_000, generator=torch.Generator().manual_seed(2)) * 3
    sampling, keys = Sampling(1.0, 0.95, 500), list("abcde")
    together = Draws(sampling, keys, [])(scores)
    alone = [Draws(sampling, [key], [])(scores[row : row + 1])[0] for row, key in enumerate(keys)]
    assert together == alone and len(set(alone)) > 3


def settings(**given: object) -> LocalSettings:
    return HuggingFaceSettings(checkpoint="x", **given)


def test_greedy_is_the_default_and_a_temperature_draws() -> None:
    assert settings().sampling is None
    assert settings(temperature=0, do_sample=False).sampling is None
    assert settings(do_sample=True).sampling == Sampling(1.0)
    assert settings(temperature=0.7, top_p=0.8, top_k=20, seed=3).sampling == Sampling(
        0.7, 0.8, 20, 3
    )
    assert Emu2Settings(checkpoint="x", temperature=1, beams=1).sampling == Sampling(1)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"temperature": 0.7, "do_sample": False}, "one means sampling"),
        ({"temperature": 0.0, "do_sample": True}, "one means sampling"),
        ({"top_p": 0.9, "seed": 2}, "top_p and seed would have no effect"),
        ({"temperature": 0.0, "top_k": 2}, "top_k would have no effect"),
        ({"temperature": 0.7, "beams": 3}, "but beams is 3"),
    ],
)
def test_contradictions_are_refused(given: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        settings(**given)
    assert caught.value.hint
    with pytest.raises(ConfigError, match="but beams is 5"):
        Emu2Settings(checkpoint="x", temperature=1)


def test_emu2s_own_rules_still_hold() -> None:
    with pytest.raises(ConfigError, match="memory and device_map"):
        Emu2Settings(checkpoint="x", memory="1GiB", device_map="cpu")
    assert msgspec.structs.replace(Emu2Settings(checkpoint="x"), batch=2).batch == 2
