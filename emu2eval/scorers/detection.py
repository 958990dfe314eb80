"""Numbers for telling two classes apart: area under the ROC curve, average precision, F1.

They read two details of a score: `positive`, whether the sample is of the positive class, and
`evidence`, a number that is larger the more the model takes it to be.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from emu2eval.statistics.bootstrap import Array, Bootstrap
from emu2eval.statistics.estimates import Accumulator, ValueRange
from emu2eval.types import Sample, Score


class Detection(Accumulator):
    """Gathers (cluster, evidence, positive?); trials are pooled. Subclass and write `result`."""

    def __init__(self, scale: float = 100.0):
        self.scale = scale
        self.seen: list[tuple[str, float, bool]] = []

    def add(self, sample: Sample, score: Score) -> None:
        if "positive" in score.details:
            cluster = sample.cluster or sample.id
            self.seen.append((cluster, score.details["evidence"], score.details["positive"]))

    @abstractmethod
    def result(self) -> tuple[float | None, float | None]: ...


class RocAuc(Detection):
    """Area under the ROC curve: the share of pairs in which the positive one has more evidence, ties half.

    Standard error by DeLong et al. (1988), in Obuchowski's form for clustered data (1997), which is the
    same where no two samples share a cluster.
    """

    def result(self) -> tuple[float | None, float | None]:
        positives = sorted(e for _, e, positive in self.seen if positive)
        negatives = sorted(e for _, e, positive in self.seen if not positive)
        m, n = len(positives), len(negatives)
        if not m or not n:
            return None, None
        # The share of the other class that each sample stands on the right side of.
        placed = [
            below(negatives, e) / n if positive else 1 - below(positives, e) / m
            for _, e, positive in self.seen
        ]
        right = (p for p, (_, _, positive) in zip(placed, self.seen, strict=True) if positive)
        area = math.fsum(right) / m
        # By cluster: what its positives, and its negatives, are off the area in sum.
        ups: defaultdict[str, float] = defaultdict(float)
        downs: defaultdict[str, float] = defaultdict(float)
        for share, (cluster, _, positive) in zip(placed, self.seen, strict=True):
            (ups if positive else downs)[cluster] += share - area
        clusters = len(ups.keys() | downs.keys())
        if len(ups) < 2 or len(downs) < 2:
            return area * self.scale, None
        variance = (
            _spread(list(ups.values())) / m**2
            + _spread(list(downs.values())) / n**2
            + 2
            / (m * n)
            * clusters
            / (clusters - 1)
            * math.fsum(u * downs[c] for c, u in ups.items() if c in downs)
        )
        return area * self.scale, math.sqrt(max(variance, 0.0)) * self.scale

    def undefined(self) -> str | None:
        classes = {positive for _, _, positive in self.seen}
        return "all samples belong to one class" if len(classes) == 1 else None

    def bounds(self) -> ValueRange | None:
        return ValueRange(0.0, self.scale)


class _Drawn(Bootstrap):
    """Gathers evidence and classes of numbers without a formula for their error."""

    def __init__(self, scale: float = 100.0):
        super().__init__()
        self.scale = scale
        self.evidence: list[float] = []
        self.positive: list[bool] = []

    def keep(self, sample: Sample, score: Score) -> bool:
        if "positive" not in score.details:
            return False
        self.evidence.append(score.details["evidence"])
        self.positive.append(score.details["positive"])
        return True

    def bounds(self) -> ValueRange | None:
        return ValueRange(0.0, self.scale)


class AveragePrecision(_Drawn):
    """Average precision as in scikit-learn: the sum over thresholds of (recall gained) x precision."""

    def statistic(self, weights: Array) -> Array:
        evidence = np.asarray(self.evidence)
        order = np.argsort(-evidence, kind="stable")
        # Those with the same evidence are found together, at the last of them.
        last = np.append(np.flatnonzero(np.diff(evidence[order])), len(order) - 1)
        weights = weights[:, order]
        taken = np.cumsum(weights, 1)[:, last]
        found = np.cumsum(weights * np.asarray(self.positive)[order], 1)[:, last]
        gained = np.diff(found, axis=1, prepend=0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            precision = np.where(taken > 0, found / taken, 0.0)
            value: Array = (gained * precision).sum(1) / found[:, -1] * self.scale
        return value

    def undefined(self) -> str | None:
        lost = bool(self.positive) and not any(self.positive)
        return "no sample belongs to the positive class" if lost else None


class F1(_Drawn):
    """F1 of taking evidence above the threshold for positive; 0 where nothing is found, and no number where
    nothing is to be found either."""

    def __init__(self, scale: float = 100.0, threshold: float = 0.5):
        super().__init__(scale)
        self.threshold = threshold

    def statistic(self, weights: Array) -> Array:
        positive = np.asarray(self.positive)
        taken = np.asarray(self.evidence) > self.threshold
        both, either = weights @ (positive & taken), weights @ (1.0 * positive + taken)
        with np.errstate(divide="ignore", invalid="ignore"):
            value: Array = 2 * both / either * self.scale
        return value

    def undefined(self) -> str | None:
        taken = any(self.positive) or any(each > self.threshold for each in self.evidence)
        lost = bool(self.positive) and not taken
        return (
            "no sample belongs to the positive class, and none was classified as such"
            if lost
            else None
        )


def below(ordered: Sequence[float], value: float) -> float:
    """How many of the ordered values are below `value`, those equal to it counting half.

    >>> below([1.0, 2.0, 2.0, 3.0], 2.0)
    2.0
    """
    return (bisect_left(ordered, value) + bisect_right(ordered, value)) / 2


def _spread(sums: Sequence[float]) -> float:
    return len(sums) / (len(sums) - 1) * math.fsum(s * s for s in sums)
