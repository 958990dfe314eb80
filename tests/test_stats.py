"""Means and their errors against formulas and simulation."""

from __future__ import annotations

import random
import statistics

import pytest

from emu2eval.stats import AllOrNothing, ClusteredMean, ClusteredRatio
from emu2eval.types import Sample, Score


def result(pairs: list[tuple[float, str]], scale: float = 1.0) -> tuple[float | None, float | None]:
    mean = ClusteredMean(scale)
    for number, (value, cluster) in enumerate(pairs):
        mean.add(Sample(str(number), cluster=cluster), Score(value))
    return mean.result()


def test_single_samples_give_the_ordinary_error() -> None:
    chance = random.Random(0)
    values = [chance.random() for _ in range(200)]
    value, error = result([(v, str(i)) for i, v in enumerate(values)], 100)
    assert value == pytest.approx(100 * statistics.mean(values))
    assert error == pytest.approx(100 * statistics.stdev(values) / 200**0.5)


def test_copies_of_a_sample_add_no_certainty() -> None:
    singles = [(float(i % 3 == 0), str(i)) for i in range(60)]
    copies = [pair for pair in singles for _ in range(5)]
    assert result(copies)[1] == pytest.approx(result(singles)[1])


def test_nothing_and_one_cluster() -> None:
    assert result([]) == (None, None)
    assert result([(1, "a"), (0, "a")]) == (0.5, None)


def test_intervals_cover_the_truth_on_clustered_data() -> None:
    """95 % intervals over 60 pictures of 1 to 9 alike questions; ordinary errors would cover far less."""
    chance = random.Random(1)
    covered = 0
    for _ in range(600):
        pairs = []
        for picture in range(60):
            ease = chance.random()
            pairs += [
                (float(chance.random() < ease), str(picture)) for _ in range(chance.randint(1, 9))
            ]
        value, error = result(pairs)
        assert value is not None
        assert error is not None
        covered += abs(value - 0.5) < 1.96 * error
    assert 0.92 < covered / 600 < 0.97


def test_order_does_not_matter() -> None:
    pairs = [(random.Random(i).random(), str(i % 7)) for i in range(100)]
    assert result(pairs) == pytest.approx(result(pairs[::-1]), rel=1e-12)


def test_the_mean_of_a_detail() -> None:
    mean = ClusteredMean(100, of="colour")
    for name, right in (("a", True), ("b", False), ("c", None)):
        mean.add(Sample(name), Score(0.0, details={"colour": right}))
    assert mean.result()[0] == 50


def test_a_ratio_over_ones_is_the_clustered_mean() -> None:
    chance = random.Random(3)
    pairs = [(float(chance.random() < 0.3), str(i // 4)) for i in range(120)]
    ratio = ClusteredRatio(lambda sample, score: (score.value or 0.0, 1.0), 100)
    for number, (value, cluster) in enumerate(pairs):
        ratio.add(Sample(str(number), cluster=cluster), Score(value))
    assert ratio.result() == pytest.approx(result(pairs, 100))


def test_the_error_of_a_ratio_is_how_much_it_varies() -> None:
    chance = random.Random(5)
    values, errors = [], []
    for _ in range(300):
        ratio = ClusteredRatio(lambda s, score: (score.details["a"], score.details["b"]))
        for number in range(150):
            b = float(chance.random() < 0.6)
            a = b * (chance.random() < 0.7)
            ratio.add(Sample(str(number)), Score(1.0, details={"a": a, "b": b}))
        value, error = ratio.result()
        assert value is not None and error is not None
        values.append(value)
        errors.append(error)
    assert statistics.mean(errors) == pytest.approx(statistics.stdev(values), rel=0.1)


def test_a_question_is_right_once_a_trial_and_only_if_it_is_whole() -> None:
    share = AllOrNothing(lambda sample: 2)
    assert share.result() == (None, None)
    for trial in ([1, 1, 1, 1], [1, 0, 1, 1]):
        for place, value in enumerate(trial):
            share.add(Sample(str(place), cluster=str(place // 2)), Score(value))
    assert share.result()[0] == 0.75
    # A third trial of one rotation alone says nothing about its question, in any trial.
    share.add(Sample("0", cluster="0"), Score(0))
    assert share.result()[0] == 1.0
