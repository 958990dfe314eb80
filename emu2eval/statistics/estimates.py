"""Means with honest standard errors and 95 % intervals; all are clustered, usually by image."""

from __future__ import annotations

import math
import statistics
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from emu2eval.statistics.student_t import quantile
from emu2eval.types import Sample, Score

_NOTHING = 1e-9
"""A standard error, as a part of the scale, below which every cluster said the same."""


class ValueRange(NamedTuple):
    """The least and the largest possible value of a number, on its metric's scale.

    telling: how many clusters show the rarer end, such as the few wrong answers of a model that is nearly
    always right. An error near a bound is made of these alone.
    """

    least: float
    most: float
    telling: float = math.inf


class Accumulator(ABC):
    """Computes one number from the scores of a run, given one at a time; only actual scores are given."""

    @abstractmethod
    def add(self, sample: Sample, score: Score) -> None: ...

    @abstractmethod
    def result(self) -> tuple[float | None, float | None]:
        """(value, standard error), on the metric's scale; None if there are too few scores."""

    def value(self) -> float | None:
        """The value alone, for where its error is costly and not wanted."""
        return self.result()[0]

    def undefined(self) -> str | None:
        """Why the number has no meaning on the scores given, where that is so and there are any."""
        return None

    def bounds(self) -> ValueRange | None:
        """The range of the number; None = unbounded.

        An interval of a bounded number never leaves its bounds nor collapses on one.
        """
        return None

    def interval(self) -> tuple[float, float] | None:
        """Its own 95 % interval; None = computed from value, error and bounds."""
        return None


class Linearized(Accumulator):
    """Subclass and write `value` and `influences`: a smooth number errs as its linear part does."""

    @abstractmethod
    def influences(self) -> Mapping[str, float] | None:
        """What each cluster moves the number by, to first order; they add up to about 0."""

    def result(self) -> tuple[float | None, float | None]:
        value, moved = self.value(), self.influences()
        if value is None or moved is None:
            return value, None
        count = len(moved)
        squares = math.fsum(part * part for part in moved.values())
        return value, math.sqrt(squares * count / (count - 1))


class ClusteredMean(Accumulator):
    """A mean whose standard error accounts for the similarity of samples in one cluster.

    Cluster-robust variance of a mean with the G/(G-1) correction (Liang and Zeger, 1986; Miller,
    "Adding Error Bars to Evals", arXiv 2411.00640). With clusters of one it is the ordinary s/sqrt(n).
    bounded: values that all lie between 0 and 1 are rates, bounded by them; a cosine, say, is not.

    of: the detail of the score that is averaged, in place of its value; scores without it are passed over.

    >>> mean = ClusteredMean(scale=100)
    >>> for number, (value, image) in enumerate([(1, "a"), (1, "a"), (0, "b"), (1, "c")]):
    ...     mean.add(Sample(str(number), cluster=image), Score(value))
    >>> value, error = mean.result()
    >>> round(value, 2), round(error, 2)
    (75.0, 28.64)
    """

    def __init__(self, scale: float = 1.0, of: str | None = None, bounded: bool = True):
        self.scale = scale
        self.of = of
        self.sums: dict[str, list[float]] = {}
        self.bounded = bounded

    def add(self, sample: Sample, score: Score) -> None:
        value = score.value if self.of is None else score.details.get(self.of)
        if value is None:
            return
        if not 0 <= value <= 1:
            self.bounded = False
        cluster = sample.cluster or sample.id
        found = self.sums.get(cluster)
        if found is None:
            self.sums[cluster] = [value, 1]
        else:
            found[0] += value
            found[1] += 1

    def result(self) -> tuple[float | None, float | None]:
        n = math.fsum(count for _, count in self.sums.values())
        if not n:
            return None, None
        mean = math.fsum(total for total, _ in self.sums.values()) / n
        clusters = len(self.sums)
        if clusters < 2:
            return mean * self.scale, None
        spread = math.fsum((total - count * mean) ** 2 for total, count in self.sums.values())
        error = math.sqrt(spread * clusters / (clusters - 1)) / n
        return mean * self.scale, error * self.scale

    def bounds(self) -> ValueRange | None:
        if not self.bounded:
            return None
        above = sum(total > 0 for total, _ in self.sums.values())
        below = sum(total < count for total, count in self.sums.values())
        return ValueRange(0.0, self.scale, min(above, below))


class ClusteredRatio(Accumulator):
    """A sum over a sum, such as F1; over the labels of a grouping, the mean of their ratios.

    parts: what a sample adds to numerator and denominator. by: the grouping (absent = all is one).
    bounded: the ratio cannot leave 0 to 1.
    The error is that of the linearised ratio (Cochran, "Sampling Techniques", 6.3), clustered by
    image across the labels. No number where a denominator is zero.

    >>> ratio = ClusteredRatio(lambda sample, score: (score.value, 1.0), scale=100, by="file")
    >>> for number, (value, file) in enumerate([(1, "a"), (1, "a"), (0, "a"), (0, "a"), (1, "b")]):
    ...     ratio.add(Sample(str(number), groups={"file": file}), Score(value))
    >>> ratio.result()[0]
    75.0
    """

    def __init__(
        self,
        parts: Callable[[Sample, Score], tuple[float, float]],
        scale: float = 1.0,
        by: str | None = None,
        bounded: bool = True,
    ):
        self.parts = parts
        self.scale = scale
        self.by = by
        self.bounded = bounded
        # label -> cluster -> [numerator, denominator]
        self.sums: dict[str, dict[str, list[float]]] = {}

    def add(self, sample: Sample, score: Score) -> None:
        label = str(sample.groups.get(self.by, "")) if self.by is not None else ""
        clusters = self.sums.setdefault(label, {})
        found = clusters.setdefault(sample.cluster or sample.id, [0.0, 0.0])
        above, below = self.parts(sample, score)
        found[0] += above
        found[1] += below

    def result(self) -> tuple[float | None, float | None]:
        ratios = []
        off: defaultdict[str, float] = defaultdict(float)
        for clusters in self.sums.values():
            below = math.fsum(b for _, b in clusters.values())
            if not below:
                return None, None
            ratio = math.fsum(a for a, _ in clusters.values()) / below
            ratios.append(ratio)
            for cluster, (a, b) in clusters.items():
                off[cluster] += (a - ratio * b) / below / len(self.sums)
        if not ratios:
            return None, None
        value = math.fsum(ratios) / len(ratios) * self.scale
        count = len(off)
        if count < 2:
            return value, None
        spread = math.fsum(e * e for e in off.values())
        return value, math.sqrt(spread * count / (count - 1)) * self.scale

    def undefined(self) -> str | None:
        empty = [
            label
            for label, each in self.sums.items()
            if not any(below for _, below in each.values())
        ]
        if not empty:
            return None
        where = f" in {', '.join(empty)}" if self.by is not None else ""
        return f"its denominator{where} is empty"

    def bounds(self) -> ValueRange | None:
        return ValueRange(0.0, self.scale) if self.bounded else None


class AllOrNothing(Accumulator):
    """The share of clusters in which every sample is right, each cluster once a trial.

    size: how many samples the cluster of a sample has. A cluster that is not all there, in any trial,
    is left out: its missing samples might have been wrong.

    >>> share = AllOrNothing(lambda sample: 2, scale=100)
    >>> for number, (value, cluster) in enumerate([(1, "a"), (1, "a"), (1, "b"), (0, "b"), (1, "c")]):
    ...     share.add(Sample(str(number), cluster=cluster), Score(value))
    >>> share.result()[0]
    50.0
    """

    def __init__(self, size: Callable[[Sample], int], scale: float = 1.0):
        self.size = size
        self.scale = scale
        # cluster -> its size, and the values of each of its samples, trial after trial
        self.clusters: dict[str, tuple[int, dict[str, list[float]]]] = {}

    def add(self, sample: Sample, score: Score) -> None:
        if score.value is None:
            return
        cluster = sample.cluster or sample.id
        _, values = self.clusters.setdefault(cluster, (self.size(sample), {}))
        values.setdefault(sample.id, []).append(score.value)

    def result(self) -> tuple[float | None, float | None]:
        return self._mean().result()

    def undefined(self) -> str | None:
        whole = bool(self._mean().sums) or not self.clusters
        return None if whole else "no question has scores for all its rotations"

    def bounds(self) -> ValueRange | None:
        return self._mean().bounds()

    def _mean(self) -> ClusteredMean:
        mean = ClusteredMean(self.scale)
        for cluster, (size, values) in self.clusters.items():
            trials = {len(each) for each in values.values()}
            if len(values) != size or len(trials) > 1:
                continue
            for trial in zip(*values.values(), strict=True):
                mean.add(Sample(cluster), Score(float(min(trial) == 1)))
        return mean


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with what is known of it; None where there is too little.

    error: standard error; low, high: ends of the 95 % interval; spread: the standard deviation of the
    values of single trials.
    """

    value: float | None = None
    error: float | None = None
    low: float | None = None
    high: float | None = None
    spread: float | None = None


def estimate(whole: Accumulator, trials: Sequence[Accumulator], sizes: Collection[int]) -> Estimate:
    """Value, error and interval of all trials together, and how far the trials lie apart.

    whole: over all trials; trials: each for itself, where there are several; sizes: samples per cluster.
    The variance is that of the whole, clustered, plus what the draws of demonstrations move all answers
    by: the variance between the trials' values, less what it would be if each answer had its own luck,
    over the number of trials. Degrees of freedom by Satterthwaite (1946). Three trials are few: such an
    interval holds the truth in 92 of 100 cases; from five on in 95.
    """
    value, error = whole.result()
    if value is None:
        return Estimate()
    values = [v for v in (trial.value() for trial in trials) if v is not None]
    spread = statistics.stdev(values) if len(values) > 1 else None
    if error is None:
        return Estimate(value, spread=spread)
    dof = len(sizes) - 1.0
    within, between = error**2, 0.0
    if spread is not None and within > 0:
        errors = [e for _, e in (trial.result() for trial in trials) if e is not None]
        count = len(values)
        # Each trial's variance holds both: what the queries share over all trials, and what they do not.
        # The latter is what is left when the variance of the whole is taken off.
        own = statistics.fmean(e**2 for e in errors) - within if len(errors) == count else 0.0
        between = max(0.0, spread**2 - max(0.0, own) * count / (count - 1)) / count
        parts = within**2 / dof + between**2 / (count - 1)
        dof = (within + between) ** 2 / parts
    total = math.sqrt(within + between)
    made = whole.interval()
    if made is None:
        low, high = interval(value, total, dof, whole.bounds(), kish(sizes))
    else:
        wider = total / error * quantile(dof) / quantile(len(sizes) - 1) if within > 0 else 1.0
        low, high = value - (value - made[0]) * wider, value + (made[1] - value) * wider
    if total <= _NOTHING * max(1.0, abs(value)):
        # Nothing differed, so nothing can be said by the usual formula; the interval knows better.
        total = (high - low) / 2 / quantile(dof)
    return Estimate(value, total, low, high, spread)


def interval(
    value: float, error: float, dof: float, bounds: ValueRange | None = None, alike: float = 0.0
) -> tuple[float, float]:
    """The 95 % interval of a number with a standard error of `dof` degrees of freedom.

    Without bounds value ± t x error. With bounds Wilson's score interval (1927) with t in place of z and
    the effective sample size p (1 - p) / error² in place of n (Korn and Graubard, 1998; Dean and Pagano,
    2015), which is honest near a bound.

    alike: the sample size if all samples of a cluster were alike (`kish`). It counts as two clusters beside
    the telling ones, since few of those say little of how alike samples are, and alone where all agree.

    >>> [round(end, 4) for end in interval(0.0, 0.0, math.inf, ValueRange(0, 1), 400)]
    [0.0, 0.0095]
    """
    t = quantile(dof)
    if bounds is None:
        return value - t * error, value + t * error
    least, most, telling = bounds
    p, part = (value - least) / (most - least), error / (most - least)
    n = alike
    if part > _NOTHING:
        n = p * (1 - p) / part**2
        if math.isfinite(telling):
            n = (telling * n + 2 * alike) / (telling + 2)
    if n <= 0:
        return value, value
    middle, half = p + t * t / (2 * n), t * math.sqrt(p * (1 - p) / n + t * t / (4 * n * n))
    shrink = 1 + t * t / n
    # At a bound the end is the bound, and not a rounding away from it.
    low = 0.0 if p <= 0 else max(0.0, (middle - half) / shrink)
    high = 1.0 if p >= 1 else min(1.0, (middle + half) / shrink)
    return least + low * (most - least), least + high * (most - least)


def kish(sizes: Collection[int]) -> float:
    """How many samples clusters of these sizes are worth if all samples of a cluster are alike.

    Kish, "Survey Sampling" (1965): n² / sum of squared sizes.

    >>> kish([2, 2, 2]), kish([4, 1, 1])
    (3.0, 2.0)
    """
    squares = sum(size * size for size in sizes)
    return sum(sizes) ** 2 / squares if squares else 0.0
