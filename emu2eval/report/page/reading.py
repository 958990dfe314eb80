"""Each run of a page, read once: laid out for comparison, counted, and the samples chosen that are shown."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emu2eval.compare.headlines import Headline, Layout
from emu2eval.errors import StoreError, UserError
from emu2eval.runs.scored import ScoredRun, read_run
from emu2eval.runs.scores import SampleScore, read_rows
from emu2eval.types import Row

ANSWERS = 25_000
"""Answers that a page shows in all, unless more are asked for."""
FEWEST = 20
"""Samples of a run that are shown, however many runs there are."""
_MOST_LABELS = 60
"""Different predictions up to which they may be those of a classifier."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a run predicted, in the order of its keys, sorted: numbers of `labels`, -1 where it has none."""

    labels: tuple[str, ...]
    codes: NDArray[np.int16]


@dataclass(frozen=True, eq=False)
class ReadRun:
    """A run without its scores but those of samples that may be shown.

    laid: None where its scorer is not there. counts: answers by what they are worth, such as right, of all;
    scores: of the samples chosen, as stored; order: their ids, those that are shown first first.
    """

    run: ScoredRun
    laid: Headline | None
    answers: int
    counts: dict[str, int]
    bounded: bool
    scores: tuple[SampleScore, ...]
    order: tuple[str, ...]
    predictions: Predictions | None

    @property
    def head(self) -> Row:
        return self.run.rows[0]


@dataclass
class Reading:
    """Reads runs. most: samples of each that are chosen; None for as many as fit in one page."""

    folders: Sequence[Path]
    most: int | None = None
    layout: Layout = field(default_factory=Layout)
    _ranked: Ranked = field(default_factory=lambda: Ranked())

    def __post_init__(self) -> None:
        sizes = [size for folder in self.folders if (size := _size(folder)) is not None]
        self._cap = self.most or cap(sizes, ANSWERS)

    def __call__(self, folder: Path) -> ReadRun:
        """Raises StoreError where it cannot be read."""
        run = read_run(folder)
        try:
            laid = self.layout(run)
        except UserError:
            laid = None
        scores = tuple(run.scores.values())
        worth = Counter(score.value for score in scores)
        bounded = _bounded(run.rows[0], worth)
        counts: Counter[str] = Counter()
        for value, count in worth.items():
            counts[verdict(value, bounded)] += count
        order = chosen(scores, self._cap, self._ranked)
        kept = set(order)
        return ReadRun(
            run=replace(run, scores={}),
            laid=laid,
            answers=len(scores),
            counts=dict(counts),
            bounded=bounded,
            scores=tuple(score for score in scores if score.id in kept),
            order=order,
            predictions=_predictions(run),
        )


def cap(sizes: Sequence[int], most: int) -> int:
    """How many of each may be kept, so that not more than `most` are kept of all.

    >>> cap([5, 100, 1000], 305)
    200
    """
    left, rest = most, sorted(sizes)
    while rest and rest[0] <= left // len(rest):
        left -= rest.pop(0)
    return max(FEWEST, left // len(rest)) if rest else max(sizes, default=FEWEST)


class Ranked(dict[tuple[str, ...], tuple[str, ...]]):
    """Ids -> the same in the order of their ranks, made once for all runs of the same questions."""

    def __missing__(self, ids: tuple[str, ...]) -> tuple[str, ...]:
        self[ids] = found = tuple(sorted(ids, key=_rank))
        return found


def chosen(
    scores: Sequence[SampleScore], most: int, known: Ranked | None = None
) -> tuple[str, ...]:
    """The ids of the samples that are shown, in an order by which fewer are the first of more.

    The same for all runs of the same questions, but for a tenth that is kept for samples that have no score.
    """
    ids = tuple(dict.fromkeys(score.id for score in scores))
    each = len(scores) // max(1, len(ids)) or 1
    ranked = (Ranked() if known is None else known)[ids]
    if len(ids) * each <= most:
        return ranked
    wanted = max(1, most // each)
    failed = {score.id for score in scores if score.value is None and not score.hidden}
    first = [name for name in ranked if name in failed][: wanted // 10]
    others = set(first)
    rest = [name for name in ranked if name not in others]
    return (*first, *rest[: wanted - len(first)])


def _rank(name: str) -> bytes:
    return hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=8).digest()


def _size(folder: Path) -> int | None:
    try:
        rows = read_rows(folder)
    except StoreError:
        return None
    return rows[0].n + rows[0].unscored + rows[0].hidden if rows else None


def _bounded(head: Row, values: Iterable[float | None]) -> bool:
    """Whether right and wrong make sense of its scores."""
    return head.higher_is_better and all(value is None or 0 <= value <= 1 for value in values)


def verdict(value: float | None, bounded: bool) -> str:
    """In a word, what the page calls a score."""
    if value is None:
        return "unscored"
    if not bounded:
        return "scored"
    return "right" if value >= 1 else "wrong" if value <= 0 else "partly"


def _predictions(run: ScoredRun) -> Predictions | None:
    labels = dict.fromkeys(score.prediction for score in run.scores.values())
    labels.pop(None, None)
    if not labels or len(labels) > _MOST_LABELS:
        return None
    said = [run.scores[key].prediction for key in sorted(run.scores)]
    numbers = {label: number for number, label in enumerate(labels)} | {None: -1}
    codes = np.array([numbers[each] for each in said], dtype=np.int16)
    return Predictions(tuple(label for label in labels if label is not None), codes)
