"""Means and their errors against formulas and simulation."""

from __future__ import annotations

import random
import runpy
import statistics
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest
from scipy.stats import t as scipy_t

from emu2eval.statistics.estimates import AllOrNothing, ClusteredMean, ClusteredRatio, estimate
from emu2eval.statistics.student_t import quantile, two_sided
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
    """95 % intervals over 60 images of 1 to 9 alike questions; ordinary errors would cover far less."""
    chance = random.Random(1)
    covered = 0
    for _ in range(600):
        pairs = []
        for image in range(60):
            ease = chance.random()
            pairs += [
                (float(chance.random() < ease), str(image)) for _ in range(chance.randint(1, 9))
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


SIMULATION = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "intervals.py"))


@pytest.mark.parametrize("rates", ["COMMON", "RARE"])
def test_intervals_of_rates_hold_the_truth(rates: str) -> None:
    """A smaller benchmarks/intervals.py: clustered answers, in the middle and within 5 % of either end."""
    rng = np.random.default_rng(5)
    held = [
        SIMULATION["covers_rate"](p, 60, 7, alike, rng)
        for p in SIMULATION[rates]
        for alike in (0.05, 0.3)
        for _ in range(900 // len(SIMULATION[rates]) // 2)
    ]
    assert 0.93 <= np.mean(held) <= 0.98


def test_trials_that_move_all_answers_are_in_the_interval() -> None:
    rng = np.random.default_rng(0)
    moved = [SIMULATION["covers_over_trials"](5, 40, 0.4, rng) for _ in range(400)]
    both, alone = np.mean(moved, 0)
    assert 0.91 <= both <= 0.985
    assert alone < 0.87  # what leaving the draws out would claim


def test_near_a_bound_nothing_collapses() -> None:
    for value, ends in ((0.0, (0.0, 1.0)), (1.0, (0.0, 1.0))):
        mean = ClusteredMean(100)
        for i in range(400):
            mean.add(Sample(str(i)), Score(value))
        made = estimate(mean, [], [1] * 400)
        assert made.low is not None and made.high is not None and made.error is not None
        assert made.high - made.low == pytest.approx(100 * 1.9657**2 / (400 + 1.9657**2), rel=1e-3)
        assert (made.low == 100 * ends[0]) or (made.high == 100 * ends[1])
        assert 0.2 < made.error < 0.3
        # Copies of a sample tell no more.
        fives = estimate(mean, [], [5] * 80)
        assert fives.low is not None and fives.high is not None
        assert fives.high - fives.low > 4 * (made.high - made.low)


def test_wilson_where_samples_are_independent() -> None:
    """With many clusters of one it is Wilson's interval, as scipy has it."""
    mean = ClusteredMean()
    for i in range(5000):
        mean.add(Sample(str(i)), Score(float(i < 50)))
    made = estimate(mean, [], [1] * 5000)
    known = binomtest(50, 5000).proportion_ci(method="wilson")
    assert (made.low, made.high) == pytest.approx((known.low, known.high), rel=1e-3)


def test_unbounded_values_get_t() -> None:
    values = [random.Random(i).gauss(40, 9) for i in range(12)]
    mean = ClusteredMean()
    for i, value in enumerate(values):
        mean.add(Sample(str(i)), Score(value))
    made = estimate(mean, [], [1] * 12)
    known = scipy_t.interval(
        0.95, 11, loc=statistics.mean(values), scale=statistics.stdev(values) / 12**0.5
    )
    assert (made.low, made.high) == pytest.approx(known)


@pytest.mark.parametrize("dof", [1, 2.5, 10, 99, 1e4])
def test_student(dof: float) -> None:
    assert quantile(dof) == pytest.approx(scipy_t.ppf(0.975, dof), rel=1e-10)
    assert quantile(dof, 0.8) == pytest.approx(scipy_t.ppf(0.8, dof), rel=1e-10)
    for t in (0.0, 0.3, 2.1, 30.0):
        assert two_sided(t, dof) == pytest.approx(2 * scipy_t.sf(t, dof), rel=1e-9)


def test_spread_of_trials() -> None:
    trials = [ClusteredMean(100) for _ in range(2)]
    whole = ClusteredMean(100)
    for trial, right in enumerate((range(10), range(30))):
        for i in range(40):
            for mean in (whole, trials[trial]):
                mean.add(Sample(str(i)), Score(float(i in right)))
    made = estimate(whole, trials, [2] * 40)
    assert made.value == 50
    assert made.spread == pytest.approx(statistics.stdev([25, 75]))
    within = whole.result()[1]
    assert made.error is not None and within is not None and made.error > 5 * within / 2
    assert estimate(whole, [], [2] * 40).spread is None
