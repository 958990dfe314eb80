"""Means with honest standard errors."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod


class Accumulator(ABC):
    """Adds up scores one at a time, in memory that does not grow with the number of samples."""

    @abstractmethod
    def add(self, value: float, cluster: str) -> None: ...

    @abstractmethod
    def result(self) -> tuple[float | None, float | None]:
        """(value, standard error), on the metric's scale; None where there is too little."""


class ClusteredMean(Accumulator):
    """A mean whose standard error allows for samples of one cluster being alike.

    Cluster-robust variance of a mean with the G/(G-1) correction (Liang and Zeger, 1986; Miller,
    "Adding Error Bars to Evals", arXiv 2411.00640). With clusters of one it is the ordinary s/sqrt(n).

    >>> mean = ClusteredMean(scale=100)
    >>> for value, picture in [(1, "a"), (1, "a"), (0, "b"), (1, "c")]:
    ...     mean.add(value, picture)
    >>> value, error = mean.result()
    >>> round(value, 2), round(error, 2)
    (75.0, 28.64)
    """

    def __init__(self, scale: float = 1.0):
        self.scale = scale
        self.sums: dict[str, list[float]] = {}

    def add(self, value: float, cluster: str) -> None:
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
