"""Answers that are drawn: each depends on its request and its scores alone, never on the rest of a batch.

Token number n of an answer is where the cumulative probability passes a number that is made of the request's
key and n (inverse transform sampling). So nothing is remembered between tokens, and no order, batch, padding
or restart changes a draw. The probabilities stand in the order of the vocabulary, in float64 on the CPU:
sorted ones would change places where rounding tells two apart, and with them the answer.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from hashlib import sha256

import numpy as np
import numpy.typing as npt
from torch import Tensor

from emu2eval.adapters.local.search import Sampling

Floats = npt.NDArray[np.float64]


class Draws:
    """Draws the answers of a batch's rows. keys: of the requests, one a row; ends: ids that end an answer."""

    def __init__(self, sampling: Sampling, keys: Sequence[str], ends: Collection[int]):
        self._sampling = sampling
        self._keys = keys
        self._ends = ends
        self._last: list[int | None] = [None] * len(keys)
        self._step = 0

    def __call__(self, scores: Tensor) -> list[int]:
        """The next token of each row. scores: (rows, words); what may not be said is minus infinity."""
        rows: Floats = scores.float().cpu().numpy().astype(np.float64)
        for row, key in enumerate(self._keys):
            # What an answer that has ended would say next is not looked at.
            if self._last[row] not in self._ends:
                number = uniform(self._sampling.seed, key, self._step)
                self._last[row] = passed(probabilities(rows[row], self._sampling), number)
        self._step += 1
        return [token or 0 for token in self._last]


def uniform(seed: int, key: str, step: int) -> float:
    """A number in [0, 1) of 53 bits: the same on every machine, for every version of every package."""
    found = sha256(f"draw\n{seed}\n{key}\n{step}".encode()).digest()
    return (int.from_bytes(found[:8], "big") >> 11) * 2.0**-53


def probabilities(scores: Floats, sampling: Sampling) -> Floats:
    """What each word of a vocabulary is drawn with; 0 for what `top_k` and `top_p` leave out."""
    scores = (scores - scores.max()) / sampling.temperature
    if sampling.top_k is not None and sampling.top_k < len(scores):
        least = np.partition(scores, -sampling.top_k)[-sampling.top_k]
        scores = np.where(scores < least, -np.inf, scores)
    shares: Floats = np.exp(scores)
    shares /= shares.sum()
    if sampling.top_p < 1:
        shares[~_nucleus(shares, sampling.top_p)] = 0.0
    return shares


def _nucleus(shares: Floats, most: float) -> npt.NDArray[np.bool_]:
    """The fewest of the likeliest words that hold so much of the probability."""
    left = 1 - most
    # All words below this hold less than what is left out, together, so they need not be sorted.
    kept = shares >= left / len(shares)
    likely = np.flatnonzero(kept)
    rising = likely[np.argsort(shares[likely], kind="stable")]
    below = shares[~kept].sum() + np.cumsum(shares[rising])
    kept[rising[:-1][below[:-1] <= left]] = False
    return kept


def passed(shares: Floats, number: float) -> int:
    """The first word at which the sum of the shares passes `number` of the whole."""
    sums = np.cumsum(shares)
    place = int(np.searchsorted(sums, number * sums[-1], side="right"))
    # A product that is rounded up to the whole passes nothing.
    return min(place, int(np.flatnonzero(shares)[-1]))
