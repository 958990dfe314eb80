"""Two runs over the same samples: the difference, its interval, and whether it can be chance."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emu2eval.statistics.bootstrap import Bootstrap, resample
from emu2eval.statistics.estimates import Accumulator, Linearized
from emu2eval.statistics.student_t import quantile, two_sided

Array = NDArray[np.float64]

ENUMERATED = 16
"""Clusters up to which all ways to flip their signs are gone through."""
LONGEST = 20_000
"""Sum of whole differences up to which their distribution is worked out and not drawn."""
DRAWS = 10_000
POWER = 0.8
FEWEST = 6
"""Clusters that must differ, all the same way, before sign flips can give p < 0.05: 2 / 2**6."""
_TIE = 1e-9


@dataclass(frozen=True, slots=True)
class Paired:
    """Second minus first, on the metric's scale.

    error, low, high: clustered, with the 95 % interval. p: two-sided, of no difference. mcnemar: the same
    by McNemar's exact test, for right/wrong alone. up, down: samples at which the second one's value is
    higher, or lower; None where samples have no value of their own. detectable: the smallest
    true difference that would be found in four of five such comparisons (80 % power at 5 %).
    """

    difference: float
    error: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    mcnemar: float | None = None
    up: int | None = None
    down: int | None = None
    n: int = 0
    clusters: int = 0
    detectable: float | None = None


def paired_means(
    first: Sequence[float], second: Sequence[float], clusters: Sequence[str], scale: float = 1.0
) -> Paired:
    """The difference of two means over the same samples.

    p: sign flips of whole clusters, see `sign_flip`. Interval: the difference ± t x clustered error; where
    all values are between 0 and 1 with one more differing cluster, half of it either way, as Agresti and
    Min (2005) do for matched pairs, so that it does not collapse where hardly any sample differs.

    >>> made = paired_means([0, 0, 1, 0], [1, 1, 1, 0], ["a", "b", "c", "d"])
    >>> made.difference, made.p, made.mcnemar, made.up, made.down
    (0.5, 0.5, 0.5, 2, 0)
    """
    _, codes = np.unique(np.asarray(clusters), return_inverse=True)
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    return paired_coded(one, other, codes, scale)


def paired_coded(one: Array, other: Array, codes: NDArray[np.int_], scale: float = 1.0) -> Paired:
    """As `paired_means`. codes: the number of each sample's cluster, 0 … without gaps."""
    off = other - one
    n = len(off)
    sums = np.bincount(codes, off).astype(np.float64)
    sizes = np.bincount(codes)
    count = len(sums)
    mean = math.fsum(off) / n
    both = np.concatenate([one, other])
    bounded = bool(((both >= 0) & (both <= 1)).all())
    binary = bool(((both == 0) | (both == 1)).all())
    up, down = int((off > _TIE).sum()), int((off < -_TIE).sum())
    mcnemar = exact_mcnemar(up, down) if binary else None
    if count < 2:
        return Paired(mean * scale, mcnemar=mcnemar, up=up, down=down, n=n, clusters=count)
    t = quantile(count - 1.0)
    squares = float(((sums - sizes * mean) ** 2).sum()) * count / (count - 1)
    error = math.sqrt(squares) / n
    low, high = mean - t * error, mean + t * error
    apart = sums[np.abs(sums) > _TIE]
    # A differing cluster: as large as those that differ are; where none does, as large as it could be.
    unit = float((apart**2).mean() if len(apart) else (sizes**2).mean())
    if bounded:
        whole = n + 2 * math.sqrt(unit)
        middle, half = math.fsum(off) / whole, t * math.sqrt(squares + unit) / whole
        low, high = max(-1.0, middle - half), min(1.0, middle + half)
    apart_by = (high - low) / 2 / t
    if error <= _TIE:
        error = apart_by
    # Signs of fewer than six clusters agree by chance more often than once in twenty.
    least = FEWEST * math.sqrt(unit) / n
    return Paired(
        mean * scale,
        error * scale,
        low * scale,
        high * scale,
        sign_flip(sums),
        mcnemar,
        up,
        down,
        n,
        count,
        max((t + quantile(count - 1.0, POWER)) * apart_by, least) * scale,
    )


def sign_flip(sums: Array, seed: int = 0) -> float:
    """The probability that sums with signs drawn at random add up to at least as much, either way.

    A permutation test that swaps the two runs for whole clusters; it holds at any size where the two are
    exchangeable within clusters. Exact for up to 16 clusters that differ and for whole numbers (right and
    wrong answers, tenths of VQA accuracy); else by draws, the observed one counted (Phipson and Smyth,
    2010). Where each cluster is one sample and each difference one, it is McNemar's exact test.
    """
    sizes = np.abs(sums[np.abs(sums) > _TIE])
    if not len(sizes):
        return 1.0
    observed = abs(float(sums.sum())) - _TIE * float(sizes.sum())
    if len(sizes) <= ENUMERATED:
        signs = 1 - 2 * ((np.arange(2 ** len(sizes))[:, None] >> np.arange(len(sizes))) & 1)
        return float((np.abs(signs @ sizes) >= observed).mean())
    values, counts = np.unique(np.round(sizes, 9), return_counts=True)
    for parts in (1, 2, 10, 30, 60):
        whole = np.round(values * parts)
        total = int((whole * counts).sum())
        if total <= LONGEST and np.abs(values * parts - whole).max() < 1e-6:
            return _exact(whole.astype(int), counts, total, observed * parts)
    rng = np.random.default_rng(seed)
    hits, step = 0, max(1, 2_000_000 // len(sizes))
    for start in range(0, DRAWS, step):
        rows = min(step, DRAWS - start)
        kept = rng.integers(2, size=(rows, len(sizes)), dtype=np.int8).astype(np.float64)
        hits += int((np.abs(2 * (kept @ sizes) - sizes.sum()) >= observed).sum())
    return (hits + 1) / (DRAWS + 1)


def _exact(
    values: NDArray[np.int_], counts: NDArray[np.int_], total: int, observed: float
) -> float:
    """As above, by the whole distribution of the sum of those that keep their sign."""
    chances = np.ones(1)
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        kernel = np.zeros(value * count + 1)
        kernel[::value] = _halves(count)
        chances = np.convolve(chances, kernel)
    reached = np.abs(2 * np.arange(total + 1) - total) >= observed
    return min(1.0, float(chances[reached].sum()))


def _halves(n: int) -> Array:
    """The chances of 0 … n heads in n throws of a coin."""
    logs = np.array([math.lgamma(k + 1) for k in range(n + 1)])
    return np.asarray(np.exp(logs[n] - logs - logs[::-1] - n * math.log(2)), dtype=np.float64)


def exact_mcnemar(up: int, down: int) -> float:
    """McNemar's test (1947) by the binomial distribution. It takes samples for independent.

    >>> round(exact_mcnemar(8, 1), 4)
    0.0391
    """
    return min(1.0, 2 * float(_halves(up + down)[: min(up, down) + 1].sum()))


def paired_bootstrap(first: Bootstrap, second: Bootstrap) -> Paired | None:
    """As `paired_means`, for numbers without a formula: both take the same resampled clusters.

    first, second: fed with the same samples in the same order. p: by t, of difference and error. None
    where either has no value.
    """
    one, other = first.value(), second.value()
    if one is None or other is None:
        return None
    n, count = len(first.clusters), len(set(first.clusters))
    if count < 2:
        return Paired(other - one, n=n, clusters=count)
    off = np.concatenate(
        [second.statistic(w) - first.statistic(w) for w in resample(first.clusters, first.draws)]
    )
    off = off[~np.isnan(off)]
    error = float(off.std(ddof=1)) * math.sqrt(count / (count - 1)) if len(off) > 1 else 0.0
    return _by_t(other - one, error, n, count)


def paired_influences(first: Linearized, second: Linearized, n: int) -> Paired | None:
    """As `paired_bootstrap`, for numbers whose linear part is known: that of their difference."""
    one, other = first.value(), second.value()
    if one is None or other is None:
        return None
    before, after = first.influences(), second.influences()
    if before is None or after is None:
        return Paired(other - one, n=n, clusters=1)
    count = len(before)
    squares = math.fsum((after[cluster] - moved) ** 2 for cluster, moved in before.items())
    return _by_t(other - one, math.sqrt(squares * count / (count - 1)), n, count)


def paired_jackknife(
    make: Callable[[], Accumulator],
    feed: Callable[[Accumulator, Accumulator, Sequence[int]], None],
    clusters: Sequence[str],
    groups: int = 50,
) -> Paired | None:
    """As `paired_means`, for any number: it is made anew without each fiftieth of the clusters.

    make: an empty accumulator; feed: gives samples by their places to that of the first and of the second
    run. Delete-a-group jackknife (Kott, 2001). None where either has no value.
    """
    names, codes = np.unique(np.asarray(clusters), return_inverse=True)
    groups = min(groups, len(names))
    # Neighbours in the order of names are often alike; dealt out, each group is like the whole.
    member = np.random.default_rng(0).permutation(len(names)) % groups

    def difference(places: Sequence[int]) -> float | None:
        one, other = make(), make()
        feed(one, other, places)
        before, after = one.value(), other.value()
        return None if before is None or after is None else after - before

    whole = difference(range(len(codes)))
    if whole is None:
        return None
    if groups < 2:
        return Paired(whole, n=len(codes), clusters=len(names))
    parts = [difference(np.flatnonzero(member[codes] != group).tolist()) for group in range(groups)]
    known = np.array([part for part in parts if part is not None])
    if len(known) < groups:
        return Paired(whole, n=len(codes), clusters=len(names))
    error = math.sqrt((groups - 1) / groups * float(((known - known.mean()) ** 2).sum()))
    return _by_t(whole, error, len(codes), len(names), groups)


def _by_t(
    difference: float, error: float, n: int, clusters: int, groups: int | None = None
) -> Paired:
    dof = (groups or clusters) - 1.0
    t = quantile(dof)
    p = two_sided(difference / error, dof) if error > 0 else (1.0 if difference == 0 else None)
    return Paired(
        difference,
        error,
        difference - t * error,
        difference + t * error,
        p,
        n=n,
        clusters=clusters,
        detectable=(t + quantile(dof, POWER)) * error,
    )


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Corrected for all being looked at together (Holm, 1979); None stays None.

    >>> holm([0.01, 0.04, None, 0.03])
    [0.03, 0.06, None, 0.06]
    """
    known = sorted((p, place) for place, p in enumerate(ps) if p is not None)
    corrected: list[float | None] = [None] * len(ps)
    least = 0.0
    for rank, (p, place) in enumerate(known):
        least = max(least, min(1.0, p * (len(known) - rank)))
        corrected[place] = least
    return corrected
