"""Exact nearest neighbours by cosine: blocked, in bounded memory, the same for any batch.

Products of float16 numbers are multiples of 2**-48, so that a float64 sum of those of two unit vectors
is exact in whatever order it is added up. Fast float32 products, whose rounding is bounded, only pick
candidates; the order is decided by exact sums, and of equals by the lower row.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from emu2eval.encoders.feature_files import Half

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

ROOM = 1 << 26
"""Similarities in memory at a time: 256 MiB in float32."""
_BLOCK = 8192
_PAIRS = 4096


class Table:
    """(n, width) unit vectors in float16, memory-mapped from an unnamed file, with their exact lengths."""

    def __init__(self, rows: int, width: int, blocks: Iterable[Half], folder: Path):
        """blocks: the rows in order, some at a time; folder: where the file lies while it is used."""
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            for block in blocks:
                file.write(np.ascontiguousarray(block).data)
            file.flush()
            self.rows = np.memmap(file, np.float16, "r+", shape=(rows, width))
        self.lengths = np.ones(rows)
        for start in range(0, rows, _BLOCK):
            wide = self.rows[start : start + _BLOCK].astype(np.float64)
            length = np.sqrt(np.einsum("ij,ij->i", wide, wide))
            self.lengths[start : start + _BLOCK] = np.where(length == 0, 1, length)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def width(self) -> int:
        return int(self.rows.shape[1])

    def unit(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        """Rows start … stop-1 at unit length in float32."""
        scale = (1 / self.lengths[start:stop, None]).astype(np.float32)
        return self.rows[start:stop].astype(np.float32) * scale

    def cosines(self, mine: Ints, other: Table, theirs: Ints) -> Floats:
        """The cosine of each pair of a row of this table and a row of another."""
        left = self.rows[mine].astype(np.float64)
        right = other.rows[theirs].astype(np.float64)
        exact = np.einsum("ij,ij->i", left, right)
        cosines: Floats = exact / (self.lengths[mine] * other.lengths[theirs])
        return cosines


@dataclass(frozen=True)
class Side:
    """One of the things that likeness is made of: images or words, each with its weight.

    pool_row, query_row: which row of the table each unit of the pool and each query has.
    """

    weight: float
    pool: Table
    queries: Table
    pool_row: Ints
    query_row: Ints

    @property
    def slack(self) -> float:
        """The most by which float32 products of unit vectors can be wrong (any order of summation)."""
        return self.weight * (self.pool.width + 8) * 2.0**-24

    def approximate(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        """(queries start … stop-1, units) weighted cosines in float32."""
        rows = self.query_row[start:stop]
        wide = self.queries.rows[rows].astype(np.float32)
        wide *= (self.weight / self.queries.lengths[rows, None]).astype(np.float32)
        out = np.empty((stop - start, len(self.pool)), dtype=np.float32)
        for first in range(0, len(self.pool), _BLOCK):
            last = min(first + _BLOCK, len(self.pool))
            np.matmul(wide, self.pool.unit(first, last).T, out=out[:, first:last])
        own = len(self.pool_row) == len(self.pool) and bool(
            (self.pool_row == np.arange(len(self.pool))).all()
        )
        return out if own else out[:, self.pool_row]

    def exact(self, query: Ints, unit: Ints) -> Floats:
        cosines = self.queries.cosines(self.query_row[query], self.pool, self.pool_row[unit])
        return self.weight * cosines


def nearest(
    sides: Sequence[Side], keep: int, progress: Callable[[int, int], None] | None = None
) -> tuple[npt.NDArray[np.int32], Floats]:
    """For every query the `keep` most similar units of the pool, best first, and their similarities.

    Both (queries, min(keep, units)). Equal similarities stand in the order of units.
    """
    queries, units = len(sides[0].query_row), len(sides[0].pool_row)
    keep = min(keep, units)
    best = np.empty((queries, keep), dtype=np.int32)
    similarity = np.empty((queries, keep))
    step = max(1, min(1024, ROOM // max(units, *(len(side.pool) for side in sides))))
    for start in range(0, queries, step):
        stop = min(start + step, queries)
        likeness = sides[0].approximate(start, stop)
        for side in sides[1:]:
            likeness += side.approximate(start, stop)
        row, unit = _candidates(likeness, keep, sum(side.slack for side in sides))
        del likeness  # before the next one is made
        row += start
        exact = _exact(sides, row, unit)
        order = np.lexsort((unit, -exact, row))
        begins = np.searchsorted(row, np.arange(start, stop))
        chosen = order[begins[:, None] + np.arange(keep)]
        best[start:stop] = unit[chosen]
        similarity[start:stop] = exact[chosen]
        if progress is not None:
            progress(stop, queries)
    return best, similarity


def everything(sides: Sequence[Side], query: int) -> tuple[Ints, Floats]:
    """Every unit of the pool by similarity to one query, and the similarities."""
    units = np.arange(len(sides[0].pool_row))
    exact = _exact(sides, np.full(len(units), query), units)
    order = np.lexsort((units, -exact))
    return order, exact[order]


def _candidates(likeness: npt.NDArray[np.float32], keep: int, slack: float) -> tuple[Ints, Ints]:
    """(rows, columns), sorted by row, of all entries that can be among the `keep` largest of their row."""
    rows, units = likeness.shape
    # Each of the `keep` best groups has an entry at least as large as the least of their maxima, so
    # that this bounds the keep-th largest entry from below at the price of one pass.
    size = max(1, min(64, units // (8 * keep)))
    whole = units // size * size
    maxima = likeness[:, :whole].reshape(rows, -1, size).max(axis=2)
    bound = np.partition(maxima, -keep, axis=1)[:, -keep]
    # Found in one dimension, which takes a sixth of the time that two do.
    flat = np.flatnonzero(likeness >= (bound - np.float32(2.5 * slack))[:, None])
    row, unit = np.divmod(flat, units)
    return row, unit


def _exact(sides: Sequence[Side], query: Ints, unit: Ints) -> Floats:
    total = np.zeros(len(query))
    for start in range(0, len(query), _PAIRS):
        part = slice(start, start + _PAIRS)
        for side in sides:
            total[part] += side.exact(query[part], unit[part])
    return total
