"""Answers that are drawn: each depends on its request and its scores alone, never on the rest of a batch.

Token number n of an answer is where the cumulative probability passes a number that is made of the request's
key and n (inverse transform sampling). So nothing is remembered between tokens, and no order, batch, padding
or restart changes a draw. The probabilities stand in the order of the vocabulary, in float64 on the CPU:
sorted ones would change places where rounding tells two apart, and with them the answer.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from emu2eval.adapters.local.search import Sampling

Floats = npt.NDArray[np.float64]

_LARGE = 10_000
"""Words of a vocabulary from which on a row takes longer than handing it to a thread."""


class Draws:
    """Draws the answers of a batch's rows. keys: of the requests, one a row; ends: ids that end an answer."""

    def __init__(self, sampling: Sampling, keys: Sequence[str], ends: Collection[int]):
        self._sampling = sampling
        self._keys = keys
        self._ends = ends
        self._last: list[int | None] = [None] * len(keys)
        self._step = 0
        self._workers: ThreadPoolExecutor | None = None

    def __call__(self, scores: Tensor) -> list[int]:
        """The next token of each row. scores: (rows, words); what may not be said is minus infinity."""
        known = scores.float().cpu().numpy()
        # What an answer that has ended would say next is not looked at.
        open_ = [row for row, last in enumerate(self._last) if last not in self._ends]

        def draw(row: int) -> int:
            number = uniform(self._sampling.seed, self._keys[row], self._step)
            return passed(shares(known[row], self._sampling), number)

        for row, token in zip(open_, self._map(known.shape[1])(draw, open_), strict=True):
            self._last[row] = token
        self._step += 1
        return [token or 0 for token in self._last]

    def _map(self, words: int) -> Callable[[Callable[[int], int], list[int]], Iterable[int]]:
        """Rows side by side where they are worth it: numpy works outside of Python's lock."""
        if len(self._keys) < 2 or words < _LARGE:
            return map
        if self._workers is None:
            self._workers = ThreadPoolExecutor(min(8, os.cpu_count() or 1, len(self._keys)))
        return self._workers.map


def uniform(seed: int, key: str, step: int) -> float:
    """A number in [0, 1) of 53 bits: the same on every machine, for every version of every package."""
    found = sha256(f"draw\n{seed}\n{key}\n{step}".encode()).digest()
    return (int.from_bytes(found[:8], "big") >> 11) * 2.0**-53


def shares(scores: npt.NDArray[Any], sampling: Sampling) -> Floats:
    """What each word is drawn with, up to a factor; 0 for what `top_k` and `top_p` leave out."""
    found = scores.astype(np.float64)
    found -= found.max()
    found /= sampling.temperature
    if sampling.top_k is not None and sampling.top_k < len(found):
        found[found < np.partition(found, -sampling.top_k)[-sampling.top_k]] = -np.inf
    np.exp(found, out=found)
    if sampling.top_p < 1:
        found[~_nucleus(found, sampling.top_p)] = 0.0
    return found


def _nucleus(shares: Floats, most: float) -> npt.NDArray[np.bool_]:
    """The fewest of the likeliest words that hold so much of the probability."""
    left = (1 - most) * shares.sum()
    # All words below this hold less than what is left out, together, so they need not be sorted.
    kept: npt.NDArray[np.bool_] = shares >= left / len(shares)
    likely = np.flatnonzero(kept)
    rising = likely[np.argsort(shares[likely], kind="stable")]
    below = shares[~kept].sum() + np.cumsum(shares[rising])
    kept[rising[:-1][below[:-1] <= left]] = False
    return kept


def passed(shares: Floats, number: float) -> int:
    """The first word at which the sum of the shares passes `number` of the whole."""
    sums = np.cumsum(shares)
    place = int(np.searchsorted(sums, number * sums[-1], side="right"))
    if place == len(shares):  # a product that is rounded up to the whole passes nothing
        return int(np.flatnonzero(shares)[-1])
    return place
