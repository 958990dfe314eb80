"""Means with honest standard errors."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

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
