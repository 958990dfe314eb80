"""The pool of `rices` as a matrix: samples that look alike by construction are one unit of the search."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np

from emu2eval.encoders.feature_files import Half
from emu2eval.encoders.features import FeatureCache, Kind
from emu2eval.fewshot.search import Ints, Side, Table

Digests = tuple[str, ...]
"""What a vector is made of: one image or text, or several images."""


@dataclass(frozen=True)
class Stored:
    """sets: the digests that each key consists of; store: holds the vectors of all of them;
    computed: how many of those were made now."""

    sets: Sequence[Digests]
    store: FeatureCache
    computed: int

    @cached_property
    def used(self) -> set[str]:
        return {digest for shown in self.sets for digest in shown}

    @property
    def digest(self) -> str:
        return self.store.digest(self.used)


@dataclass(frozen=True)
class KeyedRows:
    """Different vectors in a table, and which of them each key has."""

    table: Table
    row_of: Ints

    @classmethod
    def of(cls, stored: Stored) -> KeyedRows:
        numbers: dict[Digests, int] = {}
        rows = [numbers.setdefault(shown, len(numbers)) for shown in stored.sets]
        different = list(numbers)

        def blocks() -> Iterator[Half]:
            for start in range(0, len(different), 4096):
                yield _means(different[start : start + 4096], stored.store)

        table = Table(len(different), stored.store.width, blocks(), stored.store.folder)
        return cls(table, np.array(rows, dtype=np.int64))


@dataclass(frozen=True)
class Neighbours:
    """What a search found for one query: its row among others searched with it, and its neighbours."""

    queries: Mapping[Kind, KeyedRows]
    rows: Ints
    row: int
    keep: int
    units: Any
    similarity: Any


@dataclass(frozen=True)
class PoolIndex:
    """The pool by units: samples with the same images (and words) are one, in the order of first ids.

    members[starts[u]:starts[u + 1]]: positions in the pool of the samples of unit u.
    """

    tables: Mapping[Kind, KeyedRows]
    weights: Mapping[Kind, float]
    identity: Mapping[str, Any]
    members: Ints
    starts: Ints

    @classmethod
    def of(
        cls,
        tables: Mapping[Kind, KeyedRows],
        unit_of: Any,
        positions: Any,
        weights: Mapping[Kind, float],
        identity: Mapping[str, Any],
    ) -> PoolIndex:
        """unit_of: the unit of each of the samples at those positions in the pool."""
        members = positions[np.argsort(unit_of, kind="stable")]
        starts = np.concatenate([[0], np.cumsum(np.bincount(unit_of))])
        return cls(tables, weights, identity, members, starts)

    @property
    def units(self) -> int:
        return len(self.starts) - 1

    @property
    def image_of(self) -> Ints:
        """A number for each unit, the same for units of the same images."""
        rows = self.tables.get("images")
        return rows.row_of if rows is not None else np.arange(self.units)

    def sides(self, queries: Mapping[Kind, KeyedRows], rows: Ints) -> list[Side]:
        return [
            Side(
                weight,
                self.tables[kind].table,
                queries[kind].table,
                self.tables[kind].row_of,
                queries[kind].row_of[rows],
            )
            for kind, weight in self.weights.items()
        ]

    def spread(
        self, ranked: Sequence[tuple[int, float]], *, whole: bool
    ) -> Iterator[tuple[int, float, int]]:
        """The samples of units ranked best first; equally similar ones in the order of their ids.

        whole: False = more units may follow that are as similar as the last ones.
        """
        last = ranked[-1][1]
        for similarity, group in groupby(ranked, key=lambda pair: pair[1]):
            units = [unit for unit, _ in group]
            found = sorted(
                (int(position), unit)
                for unit in units
                for position in self.members[self.starts[unit] : self.starts[unit + 1]]
            )
            if similarity == last and not whole:
                # n units are known of those that tie, the ones with the n lowest first ids. The n
                # lowest ids are surely among theirs; a later one may belong to a unit not known.
                found = found[: len(units)]
            for position, unit in found:
                yield unit, similarity, position


def _means(sets: Sequence[Digests], store: FeatureCache) -> Half:
    """(n, width): the vector of a set of one; of more the mean of their vectors, at unit length."""
    flat: Half = store.vectors([digest for shown in sets for digest in shown])
    if len(flat) == len(sets):
        return flat
    out = np.empty((len(sets), flat.shape[1]), dtype=np.float16)
    start = 0
    for row, shown in zip(out, sets, strict=True):
        mean = flat[start : start + len(shown)].astype(np.float64).sum(axis=0)
        row[:] = mean / (np.sqrt(mean @ mean) or 1)
        start += len(shown)
    return out
