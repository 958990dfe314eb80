"""Errors for numbers that no formula gives one for: whole clusters are drawn again, many times."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from emu2eval.statistics.estimates import Accumulator
from emu2eval.statistics.student_t import quantile
from emu2eval.types import Sample, Score

Array = NDArray[np.float64]

_AT_ONCE = 2_000_000
"""Weights held in memory at a time."""


def resample(clusters: Sequence[str], draws: int = 1000, seed: int = 0) -> Iterator[Array]:
    """Weights (b, n) of the samples in `draws` resamples of their clusters, some resamples at a time.

    A cluster drawn twice has its samples weigh 2. The draws depend on the seed and the set of clusters
    alone, not on the order of samples; so those of two runs over the same samples are paired.
    """
    names, codes = np.unique(np.asarray(clusters), return_inverse=True)
    count = len(names)
    rng = np.random.default_rng([seed, count])
    step = max(1, _AT_ONCE // max(len(codes), count))
    for start in range(0, draws, step):
        rows = min(step, draws - start)
        drawn = rng.integers(count, size=(rows, count)) + np.arange(rows)[:, None] * count
        times = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)
        yield times[:, codes].astype(np.float64)


class Bootstrap(Accumulator):
    """Subclass and write `keep` and `statistic`: its error and interval come from resampled clusters.

    error: the standard deviation over resamples. interval: the expanded percentile interval (Hesterberg,
    2015), whose tails allow for few clusters. A resample without a value (NaN) is left out.
    """

    draws = 1000
    seed = 0

    def __init__(self) -> None:
        self.clusters: list[str] = []

    def add(self, sample: Sample, score: Score) -> None:
        if self.keep(sample, score):
            self.clusters.append(sample.cluster or sample.id)
            self.__dict__.pop("_replicates", None)

    @abstractmethod
    def keep(self, sample: Sample, score: Score) -> bool:
        """Takes what the statistic needs of one more sample; False where it has nothing."""

    @abstractmethod
    def statistic(self, weights: Array) -> Array:
        """Weights (b, n) of the n samples kept, in order -> b values on the metric's scale, NaN for none."""

    def value(self) -> float | None:
        if not self.clusters:
            return None
        value = float(self.statistic(np.ones((1, len(self.clusters))))[0])
        return None if math.isnan(value) else value

    def result(self) -> tuple[float | None, float | None]:
        value = self.value()
        if value is None or len(self._replicates) < self.draws / 2:
            return value, None
        few = math.sqrt(self._count / (self._count - 1))
        return value, float(self._replicates.std(ddof=1)) * few

    def interval(self) -> tuple[float, float] | None:
        if len(self._replicates) < self.draws / 2 or not np.ptp(self._replicates):
            return None
        t = quantile(self._count - 1.0) * math.sqrt(self._count / (self._count - 1))
        tail = NormalDist().cdf(-t)
        low, high = np.quantile(self._replicates, [tail, 1 - tail])
        return float(low), float(high)

    @property
    def _count(self) -> int:
        return len(set(self.clusters))

    @cached_property
    def _replicates(self) -> Array:
        if self._count < 2:
            return np.empty(0)
        parts = [self.statistic(w) for w in resample(self.clusters, self.draws, self.seed)]
        whole: Array = np.concatenate(parts)
        return whole[~np.isnan(whole)]


class BootstrapOfSums(Bootstrap):
    """A formula of sums over the samples, such as F1 or BLEU.

    parts: a sample's summands, None to pass it over; formula: sums (b, d) -> b values, shown times scale.

    >>> f1 = BootstrapOfSums(lambda sample, score: score.details["counts"], lambda s: s[:, 0] / s[:, 1])
    >>> for name, counts in (("a", (2, 2)), ("b", (0, 1)), ("c", (2, 2))):
    ...     f1.add(Sample(name), Score(1.0, details={"counts": counts}))
    >>> f1.value()
    0.8
    """

    def __init__(
        self,
        parts: Callable[[Sample, Score], Sequence[float] | None],
        formula: Callable[[Array], ArrayLike],
        scale: float = 1.0,
    ):
        super().__init__()
        self.scale = scale
        self.parts = parts
        self.formula = formula
        self.summands: list[Sequence[float]] = []

    def keep(self, sample: Sample, score: Score) -> bool:
        found = self.parts(sample, score)
        if found is None:
            return False
        self.summands.append(found)
        return True

    def statistic(self, weights: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            sums = weights @ np.asarray(self.summands, dtype=np.float64)
            return np.asarray(self.formula(sums), dtype=np.float64) * self.scale
