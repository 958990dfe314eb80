"""Intervals and tests against simulation: do 95 % intervals hold the truth in 95 of 100 experiments?

Right and wrong answers to clustered questions (those of one image are alike), several trials, numbers
without a formula, and pairs of runs. Every figure is seeded. A share of 2,000 experiments is itself known
to about ± 1 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emu2eval.statistics.bootstrap import Bootstrap
from emu2eval.statistics.estimates import ClusteredMean, estimate
from emu2eval.statistics.paired import Paired, paired_means
from emu2eval.types import Sample, Score

Array = NDArray[Any]
Generator = np.random.Generator


def eases(p: float, clusters: int, alike: float, rng: Generator) -> Array:
    """The chance of a right answer at each image, p on average. alike: the intra-cluster correlation."""
    if not alike:
        return np.full(clusters, p)
    return rng.beta(p * (1 - alike) / alike, (1 - p) * (1 - alike) / alike, clusters)


def mean_of(totals: Array, counts: Array) -> ClusteredMean:
    """A mean as if it had been given samples with these sums, one cluster after the other."""
    mean = ClusteredMean()
    pairs = np.stack([totals, counts], 1).tolist()
    mean.sums = {str(number): pair for number, pair in enumerate(pairs)}
    return mean


def covers_rate(p: float, clusters: int, largest: int, alike: float, rng: Generator) -> bool:
    """Right and wrong answers to 1 to `largest` questions an image."""
    sizes = rng.integers(1, largest + 1, clusters)
    right = rng.binomial(sizes, eases(p, clusters, alike, rng))
    made = estimate(mean_of(right, sizes), [], sizes.tolist())
    assert made.low is not None and made.high is not None
    return made.low <= p <= made.high


def covers_over_trials(
    trials: int, clusters: int, between: float, rng: Generator
) -> tuple[bool, bool]:
    """Whether the combined interval, and that of the images alone, hold the truth, which is 100.

    between: the standard deviation of what a draw of demonstrations moves all answers by; the queries
    themselves differ by 1, answers to one query by 1 more.
    """
    moved = rng.normal(0, between, (trials, 1))
    values = 100 + rng.normal(size=clusters) + moved + rng.normal(size=(trials, clusters))
    one = np.ones(clusters)
    whole = mean_of(values.sum(0), trials * one)
    single = [mean_of(trial, one) for trial in values]
    for mean in (whole, *single):
        mean.bounded = False
    sizes = [trials] * clusters
    combined, alone = estimate(whole, single, sizes), estimate(whole, [], sizes)
    assert combined.low is not None and combined.high is not None
    assert alone.low is not None and alone.high is not None
    return combined.low <= 100 <= combined.high, alone.low <= 100 <= alone.high


class Auc(Bootstrap):
    """The area under the ROC curve: a number that whole clusters are resampled for."""

    draws = 400

    def __init__(self) -> None:
        super().__init__()
        self.evidence: list[float] = []
        self.positive: list[bool] = []

    def keep(self, sample: Sample, score: Score) -> bool:
        self.evidence.append(score.value or 0.0)
        self.positive.append(score.details["positive"])
        return True

    def statistic(self, weights: Array) -> Array:
        order = np.argsort(self.evidence)
        positive = np.asarray(self.positive)[order]
        up, down = weights[:, order] * positive, weights[:, order] * ~positive
        with np.errstate(invalid="ignore"):
            below = (up * np.cumsum(down, 1)).sum(1)
            area: Array = below / (up.sum(1) * down.sum(1))
        return area


def covers_auc(clusters: int, apart: float, rng: Generator) -> bool:
    """Three samples an image that share some of their evidence; positives have more by `apart`."""
    auc = Auc()
    for number in range(clusters):
        positive, shared = bool(rng.random() < 0.4), rng.normal()
        for own in rng.normal(size=3):
            evidence = float(shared + own + apart * positive)
            auc.add(
                Sample("", cluster=f"{number}"), Score(evidence, details={"positive": positive})
            )
    truth = 0.5 * (1 + math.erf(apart / 2 / math.sqrt(2)))
    made = auc.interval()
    return made is not None and made[0] <= truth <= made[1]


def two_runs(
    p: float, better: float, clusters: int, largest: int, alike: float, rng: Generator
) -> Paired:
    """Two models over the same images; the second one is right `better` more often."""
    base = eases(p, clusters, alike, rng)
    codes = np.repeat(np.arange(clusters), rng.integers(1, largest + 1, clusters))
    first = rng.random(len(codes)) < base[codes]
    # A right answer is lost with no chance; a wrong one is mended, so that the means differ by `better`.
    mended = rng.random(len(codes)) < better / (1 - p)
    second = (rng.random(len(codes)) < base[codes]) | mended
    names = [f"{code:05d}" for code in codes]
    return paired_means(first.astype(float).tolist(), second.astype(float).tolist(), names)


def share(happens: Callable[[], bool], repeats: int) -> float:
    return sum(happens() for _ in range(repeats)) / repeats


def power(
    p: float, better: float, clusters: int, largest: int, alike: float, repeats: int, rng: Generator
) -> tuple[float, float]:
    """(share of comparisons with p < 0.05, the difference that should be found 80 % of the time)."""
    made = [two_runs(p, better, clusters, largest, alike, rng) for _ in range(repeats)]
    found = sum((m.p or 0.0) < 0.05 for m in made) / repeats
    return found, float(np.mean([m.detectable or 0.0 for m in made]))


COMMON = (0.2, 0.5, 0.8)
RARE = (0.01, 0.02, 0.05, 0.96, 0.99)


def main() -> None:
    rng = np.random.default_rng(0)
    repeats = 2000
    print("share of 95 % intervals that hold the truth (to lie between 93 and 97 %)")
    for clusters in (60, 300):
        for alike in (0.05, 0.3):
            for name, ps in (
                ("rates of 20 to 80 %", COMMON),
                ("within 5 % of 0 or 100 %", RARE),
                ("0.2 to 0.5 % (on the safe side)", (0.002, 0.005, 0.997)),
            ):
                each = repeats // len(ps)
                held = sum(
                    share(lambda: covers_rate(p, clusters, 9, alike, rng), each) for p in ps
                ) / len(ps)
                print(f"  {clusters:>4} images, correlation {alike:.2f}, {name:<31} {held:.1%}")
    for trials, between in ((3, 0.0), (3, 0.3), (5, 0.3), (10, 0.3)):
        made = [covers_over_trials(trials, 60, between, rng) for _ in range(repeats)]
        both, alone = np.mean(made, 0)
        print(
            f"  {trials:>4} trials, draws move all answers by {between}: {both:.1%}"
            f"   (without combining {alone:.1%})" + ("; three are few" if trials < 5 else "")
        )
    for clusters in (40, 150):
        held = share(lambda: covers_auc(clusters, 1.0, rng), repeats // 4)
        print(f"  {clusters:>4} images, AUC by cluster bootstrap             {held:.1%}")
    print("comparison of two runs")
    for clusters in (20, 60, 300):
        for p in (0.5, 0.95):
            made_ = [two_runs(p, 0.0, clusters, 9, 0.2, rng) for _ in range(repeats)]
            alarms = sum((m.p or 0.0) < 0.05 for m in made_) / repeats
            holds = sum((m.low or 0.0) <= 0 <= (m.high or 0.0) for m in made_) / repeats
            print(
                f"  {clusters:>4} images at {p:.0%}: false alarms {alarms:.1%} (at most 6 %), "
                f"interval holds {holds:.1%}"
            )
    for clusters in (60, 300):
        _, detectable = power(0.6, 0.05, clusters, 9, 0.2, 200, rng)
        found, _ = power(0.6, detectable, clusters, 9, 0.2, repeats // 2, rng)
        print(
            f"  {clusters:>4} images: a difference of {100 * detectable:.1f} points, said to be found "
            f"80 % of the time, is found {found:.1%}"
        )


if __name__ == "__main__":
    main()
