"""Student's t for any degrees of freedom, whole or not, with the standard library alone."""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

_NORMAL = NormalDist()
_LARGE = 1e6
"""Degrees of freedom from which on t is normal to more digits than are ever shown."""


@lru_cache(maxsize=4096)
def quantile(dof: float, below: float = 0.975) -> float:
    """The value that t stays below with this probability (at least one half).

    >>> round(quantile(9), 4), round(quantile(math.inf), 4)
    (2.2622, 1.96)
    """
    if dof > _LARGE:
        return _NORMAL.inv_cdf(below)
    low, high = 0.0, 2.0
    while 1 - two_sided(high, dof) / 2 < below:
        low, high = high, high * 2
    for _ in range(60):
        middle = (low + high) / 2
        if 1 - two_sided(middle, dof) / 2 < below:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def two_sided(t: float, dof: float) -> float:
    """The probability that |t| is at least this large.

    >>> round(two_sided(2.2622, 9), 4)
    0.05
    """
    if dof > _LARGE:
        return 2 * _NORMAL.cdf(-abs(t))
    return _incomplete_beta(dof / 2, 0.5, dof / (dof + t * t))


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """Regularised, by Lentz's continued fraction (Press et al., "Numerical Recipes", 6.4)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        # The fraction converges fast on the other side only.
        return 1 - _incomplete_beta(b, a, 1 - x)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    tiny = 1e-300
    c, d = 1.0, 1 / _away(1 - (a + b) * x / (a + 1), tiny)
    fraction = d
    for m in range(1, 10_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / _away(1 + term * d, tiny)
            c = _away(1 + term / c, tiny)
            fraction *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return front * fraction / a


def _away(value: float, tiny: float) -> float:
    return value if abs(value) > tiny else tiny
