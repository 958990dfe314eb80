"""Differences of two runs against scipy's tests and simulation; the cluster bootstrap against formulas."""

from __future__ import annotations

import itertools
import math
import runpy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import stats as scipy_stats

from emu2eval.statistics.bootstrap import BootstrapOfSums, resample
from emu2eval.statistics.estimates import Accumulator, ClusteredMean
from emu2eval.statistics.paired import (
    exact_mcnemar,
    holm,
    paired_bootstrap,
    paired_jackknife,
    paired_means,
    sign_flip,
)
from emu2eval.types import Sample, Score

SIMULATION = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "intervals.py"))


def test_few_clusters_are_gone_through() -> None:
    sums = np.random.default_rng(0).normal(0.4, 1, 10)
    known = scipy_stats.permutation_test(
        (sums,), np.sum, permutation_type="samples", n_resamples=np.inf
    )
    assert sign_flip(sums) == pytest.approx(known.pvalue)


def test_whole_numbers_are_exact_at_any_size() -> None:
    chance = np.random.default_rng(1)
    sums = chance.integers(-3, 4, 18).astype(float)
    kept = sums[sums != 0]
    flips = [
        abs(np.dot(signs, np.abs(kept))) >= abs(sums.sum())
        for signs in itertools.product((-1, 1), repeat=len(kept))
    ]
    assert sign_flip(sums) == pytest.approx(np.mean(flips))
    # Thirds of a point, as VQA accuracy has, are whole numbers of thirtieths.
    assert sign_flip(sums / 3) == pytest.approx(np.mean(flips))


def test_many_clusters_are_drawn() -> None:
    sums = np.random.default_rng(2).normal(0.1, 1, 400)
    known = scipy_stats.ttest_1samp(sums, 0).pvalue
    assert sign_flip(sums) == pytest.approx(known, abs=0.02)
    assert sign_flip(sums) == sign_flip(sums)
    assert sign_flip(np.zeros(5)) == 1


@pytest.mark.parametrize(("up", "down"), [(8, 1), (30, 50), (700, 800), (0, 3), (0, 0)])
def test_mcnemar_is_the_binomial_test_and_the_sign_flip_of_single_samples(
    up: int, down: int
) -> None:
    known = scipy_stats.binomtest(up, up + down).pvalue if up + down else 1.0
    assert exact_mcnemar(up, down) == pytest.approx(known)
    assert sign_flip(np.array([1.0] * up + [-1.0] * down)) == pytest.approx(known)


def test_the_difference_of_single_samples_is_that_of_the_paired_t_test() -> None:
    chance = np.random.default_rng(3)
    one = chance.normal(50, 9, 40)
    other = one + chance.normal(1, 3, 40)
    made = paired_means(one.tolist(), other.tolist(), [str(i) for i in range(40)])
    known = scipy_stats.ttest_rel(other, one).confidence_interval()
    assert (made.low, made.high) == pytest.approx((known.low, known.high))
    assert made.mcnemar is None


def test_equal_runs_are_not_known_to_be_equal() -> None:
    made = paired_means([1.0, 0.0] * 50, [1.0, 0.0] * 50, [str(i) for i in range(100)], 100)
    assert (made.difference, made.p, made.up, made.down) == (0, 1, 0, 0)
    assert made.low is not None and made.high is not None and made.detectable is not None
    assert -3 < made.low < -1 < 1 < made.high < 3
    assert made.detectable > 1
    (single,) = [paired_means([1.0], [0.0], ["a"])]
    assert (single.difference, single.p) == (-1, None)


def test_no_difference_is_detectable_that_signs_could_not_show() -> None:
    """One of 200 differs: at least six would have to."""
    one = [1.0] * 200
    made = paired_means([0.0, *one[1:]], one, [str(i) for i in range(200)], 100)
    assert made.difference == 0.5 and made.p == 1
    assert made.detectable == pytest.approx(3)
    six = paired_means([0.0] * 6 + one[6:], one, [str(i) for i in range(200)], 100)
    assert six.p is not None and six.p < 0.05


def test_swapped_runs_have_the_mirrored_difference() -> None:
    chance = np.random.default_rng(4)
    one, other = (chance.integers(0, 2, 90).astype(float).tolist() for _ in range(2))
    clusters = [str(i // 3) for i in range(90)]
    there, back = paired_means(one, other, clusters), paired_means(other, one, clusters)
    assert there.difference == -back.difference
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))  # type: ignore[operator]
    assert (there.p, there.up, there.down) == (back.p, back.down, back.up)


def test_false_alarms_and_power() -> None:
    """A smaller benchmarks/intervals.py."""
    rng = np.random.default_rng(0)
    for clusters in (20, 80):
        made = [SIMULATION["two_runs"](0.6, 0.0, clusters, 7, 0.2, rng) for _ in range(400)]
        # Three standard errors above the 5 % of the level.
        assert sum(m.p < 0.05 for m in made) / 400 <= 0.08
        assert sum(m.low <= 0 <= m.high for m in made) / 400 >= 0.92
    _, detectable = SIMULATION["power"](0.6, 0.05, 80, 7, 0.2, 60, rng)
    found, _ = SIMULATION["power"](0.6, detectable, 80, 7, 0.2, 300, rng)
    assert 0.72 <= found <= 0.9


def test_holm() -> None:
    """scipy has none; worked out by hand, as in statsmodels' multipletests(method="holm")."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, None, 0.9]) == [1.0, None, 1.0]


class MeanBySums(BootstrapOfSums):
    def __init__(self) -> None:
        super().__init__(
            lambda sample, score: (score.value or 0.0, 1.0), lambda s: s[:, 0] / s[:, 1]
        )


def fill(accumulator: Accumulator, values: Sequence[float], per: int = 3) -> None:
    for i, value in enumerate(values):
        accumulator.add(Sample(str(i), cluster=f"{i // per}"), Score(value))


def test_the_bootstrap_of_a_mean_is_its_formula() -> None:
    values = np.random.default_rng(5).exponential(size=300).tolist()
    mean, drawn = ClusteredMean(), MeanBySums()
    fill(mean, values)
    fill(drawn, values)
    (value, error), (again, by_draws) = mean.result(), drawn.result()
    assert value == pytest.approx(again)
    assert by_draws == pytest.approx(error, rel=0.06)
    low, high = drawn.interval() or (0.0, 0.0)
    assert low < value < high  # type: ignore[operator]
    assert high - low == pytest.approx(2 * 1.98 * error, rel=0.1)  # type: ignore[operator]
    fewer = MeanBySums()
    fill(fewer, values[:2])
    assert fewer.result()[1] is None


def test_resamples_are_seeded_and_of_whole_clusters() -> None:
    clusters = ["b", "a", "b", "c"]
    (weights,) = resample(clusters, 50)
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, [0, 1, 3]].sum(1) == 3).all()
    (again,) = resample(["a", "c", "b", "b"], 50)
    assert (again[:, 0] == weights[:, 1]).all()
    assert (next(resample(clusters, 50, seed=1)) != weights).any()
    many = np.concatenate(list(resample([str(i) for i in range(1500)], 1500)))
    assert many.shape == (1500, 1500) and abs(many.mean() - 1) < 1e-9


def test_paired_bootstrap_and_jackknife_of_a_mean_are_its_formula() -> None:
    chance = np.random.default_rng(6)
    one = chance.exponential(size=450)
    other = one + chance.normal(0.1, 0.5, 450)
    clusters = [str(i // 3) for i in range(450)]
    known = paired_means((one + 1).tolist(), (other + 1).tolist(), clusters)
    first, second = MeanBySums(), MeanBySums()
    fill(first, one.tolist())
    fill(second, other.tolist())
    drawn = paired_bootstrap(first, second)

    def feed(a: Accumulator, b: Accumulator, places: Sequence[int]) -> None:
        for i in places:
            a.add(Sample(str(i)), Score(float(one[i])))
            b.add(Sample(str(i)), Score(float(other[i])))

    cut = paired_jackknife(ClusteredMean, feed, clusters)
    for made, near in ((drawn, 0.06), (cut, 0.35)):
        assert made is not None and made.p is not None and known.p is not None
        assert made.difference == pytest.approx(known.difference)
        assert made.error == pytest.approx(known.error, rel=near)
        assert abs(math.log(made.p) - math.log(known.p)) < 3


def test_the_bootstrap_holds_the_truth_of_an_auc() -> None:
    rng = np.random.default_rng(7)
    held = [SIMULATION["covers_auc"](40, 1.0, rng) for _ in range(120)]
    assert 0.89 <= np.mean(held) <= 0.99
