"""Means with honest standard errors."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable

from emu2eval.types import Sample, Score


class Accumulator(ABC):
    """Makes one number of the scores of a run, given one at a time; only scored ones are given."""

    @abstractmethod
    def add(self, sample: Sample, score: Score) -> None: ...

    @abstractmethod
    def result(self) -> tuple[float | None, float | None]:
        """(value, standard error), on the metric's scale; None where there is too little."""


class ClusteredMean(Accumulator):
    """A mean whose standard error allows for samples of one cluster being alike.

    Cluster-robust variance of a mean with the G/(G-1) correction (Liang and Zeger, 1986; Miller,
    "Adding Error Bars to Evals", arXiv 2411.00640). With clusters of one it is the ordinary s/sqrt(n).

    of: the detail of the score that is averaged, in place of its value; scores without it are passed over.

    >>> mean = ClusteredMean(scale=100)
    >>> for number, (value, picture) in enumerate([(1, "a"), (1, "a"), (0, "b"), (1, "c")]):
    ...     mean.add(Sample(str(number), cluster=picture), Score(value))
    >>> value, error = mean.result()
    >>> round(value, 2), round(error, 2)
    (75.0, 28.64)
    """

    def __init__(self, scale: float = 1.0, of: str | None = None):
        self.scale = scale
        self.of = of
        self.sums: dict[str, list[float]] = {}

    def add(self, sample: Sample, score: Score) -> None:
        value = score.value if self.of is None else score.details.get(self.of)
        if value is None:
            return
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


class ClusteredRatio(Accumulator):
    """A sum over a sum, such as F1; over the labels of a grouping, the mean of their ratios.

    parts: what a sample adds to numerator and denominator. by: the grouping (absent = all is one).
    The error is that of the linearised ratio (Cochran, "Sampling Techniques", 6.3), clustered by
    picture across the labels. No number where a denominator is zero.

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
    ):
        self.parts = parts
        self.scale = scale
        self.by = by
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
        mean = ClusteredMean(self.scale)
        for cluster, (size, values) in self.clusters.items():
            trials = {len(each) for each in values.values()}
            if len(values) != size or len(trials) > 1:
                continue
            for trial in zip(*values.values(), strict=True):
                mean.add(Sample(cluster), Score(float(min(trial) == 1)))
        return mean.result()
