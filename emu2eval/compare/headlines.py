"""Headlines of many runs compared in pairs: the scores of each are laid out once, as arrays."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from emu2eval.compare.comparison import Difference, compare, headline_of, undecided
from emu2eval.engine.tasks import scorer_of
from emu2eval.errors import CompareError
from emu2eval.runs.record import Record
from emu2eval.runs.scored import Key, ScoredRun, read_run
from emu2eval.runs.scores import SampleScore
from emu2eval.scorers.base import Scorer
from emu2eval.statistics.paired import paired_coded


@dataclass(frozen=True, eq=False)
class Headline:
    """A run whose scores are arrays, in the order of `keys`, which are sorted.

    run: without its scores. values: what each counts in the headline, NaN where it counts nothing; scored:
    which of them have a score; clusters: numbers in the order of the clusters' names. scale: of the headline
    where it is the mean of the values; None where it is no mean.
    """

    run: ScoredRun
    scorer: Scorer
    keys: tuple[Key, ...]
    values: NDArray[np.float64]
    scored: NDArray[np.bool_]
    clusters: NDArray[np.int64]
    scale: float | None
    trials: int
    takes: int


@dataclass
class Layout:
    """Lays runs out, and keeps what many of them have in common once: keys, clusters, scorers."""

    _keys: dict[tuple[Key, ...], tuple[Key, ...]] = field(default_factory=dict)
    _clusters: dict[tuple[str, ...], NDArray[np.int64]] = field(default_factory=dict)
    _scorers: dict[bytes, Scorer] = field(default_factory=dict)

    def scorer(self, record: Record) -> Scorer:
        """Of a run. Raises UserError where its record names none that is there."""
        known = msgspec.json.encode((record.task.file, record.task.spec))
        if known not in self._scorers:
            self._scorers[known] = scorer_of(record)
        return self._scorers[known]

    def __call__(self, run: ScoredRun) -> Headline:
        """run: with its scores. Raises UserError where its scorer is not there."""
        scorer = self.scorer(run.record)
        keys = tuple(sorted(run.scores))
        ordered = [run.scores[key] for key in keys]
        names = tuple(score.cluster for score in ordered)
        if names not in self._clusters:
            codes = np.unique(np.asarray(names), return_inverse=True)[1]
            self._clusters[names] = codes.astype(np.int64)
        mean = headline_of(run, scorer)
        # The second run's samples count as the first one's metric has it, as in `compare`.
        read = mean[0] if mean is not None else _value
        return Headline(
            run=replace(run, scores={}),
            scorer=scorer,
            keys=self._keys.setdefault(keys, keys),
            values=np.array([_number(read(score)) for score in ordered], dtype=np.float64),
            scored=np.array([score.value is not None for score in ordered], dtype=np.bool_),
            clusters=self._clusters[names],
            scale=mean[1] if mean is not None else None,
            trials=run.trials,
            takes=run.takes,
        )


def _value(score: SampleScore) -> float | None:
    return score.value


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def compare_headlines(
    runs: Sequence[Headline], pairs: Iterable[tuple[int, int]], *, slow: int = 60
) -> Iterator[Difference | CompareError]:
    """The headline's difference for each pair of places in `runs`, the same as that of `compare`, or why
    there is none.

    slow: how many pairs of metrics that are no means over samples, such as CIDEr, are compared, which takes
    the samples themselves; the pairs after them are left to `compare`.
    """
    for a, b in pairs:
        first, second = runs[a], runs[b]
        mean = first.scale is not None
        if not mean and slow <= 0:
            yield CompareError(
                "comparing this metric takes long",
                hint=f"emu2eval compare {first.run.name} {second.run.name}",
            )
            continue
        slow -= not mean
        try:
            yield _difference(first, second) if mean else _compared(first.run, second.run)
        except CompareError as error:
            yield error


def _compared(first: ScoredRun, second: ScoredRun) -> Difference:
    return compare(read_run(first.folder), read_run(second.folder)).differences[0]


def _difference(first: Headline, second: Headline) -> Difference:
    blank = undecided(first.run, second.run)
    own, other = _partners(first, second)
    unmatched = 0
    if first.keys is not second.keys:
        unmatched = len(first.keys) - len(np.unique(own)) + len(second.keys) - len(np.unique(other))
    known = first.scored[own] & second.scored[other]
    if not known.any():
        raise CompareError(
            "these runs have no scored sample in common",
            where=f"{first.run.name} and {second.run.name}",
        )
    summary, row = first.scorer.summaries()[0], first.run.rows[0]
    about = replace(
        blank,
        metric=row.metric,
        variant=row.variant,
        judge=row.judge,
        unmatched=unmatched,
        unscored=int(len(known) - known.sum()),
    )
    own, other = own[known], other[known]
    one, two = first.values[own], second.values[other]
    there = ~(np.isnan(one) | np.isnan(two))
    one, two, clusters = one[there], two[there], first.clusters[own][there]
    if not len(one) or first.scale is None:
        return replace(
            about, notes=(*about.notes, f"{row.label} cannot be compared sample by sample")
        )
    scale = first.scale
    if first.keys is not second.keys or len(clusters) < len(first.clusters):
        # All of them are numbered from 0 without a gap.
        clusters = np.unique(clusters, return_inverse=True)[1]
    made = paired_coded(one, two, clusters, scale)
    better = summary.higher_is_better
    wins, losses = (made.up, made.down) if better else (made.down, made.up)
    return replace(
        about,
        first_value=math.fsum(one) / len(one) * scale,
        second_value=math.fsum(two) / len(two) * scale,
        difference=made.difference,
        error=made.error,
        low=made.low,
        high=made.high,
        p=made.p,
        mcnemar=made.mcnemar,
        wins=wins,
        losses=losses,
        ties=made.n - (wins or 0) - (losses or 0),
        n=made.n,
        clusters=made.clusters,
        detectable=made.detectable,
        higher_is_better=better,
        digits=summary.digits,
    )


Places = NDArray[np.int64]


def _partners(first: Headline, second: Headline) -> tuple[Places, Places]:
    """Places of the same sample in the same trial and take, as `matched` pairs them."""
    if first.keys is second.keys:
        whole = np.arange(len(first.keys), dtype=np.int64)
        return whole, whole
    own = {key: place for place, key in enumerate(first.keys)}
    other = {key: place for place, key in enumerate(second.keys)}
    found = [
        (own[one], other[two])
        for name in dict.fromkeys(name for name, *_ in first.keys)
        for trial in range(max(first.trials, second.trials))
        for take in range(max(first.takes, second.takes))
        if (one := _key(first, name, trial, take)) in own
        and (two := _key(second, name, trial, take)) in other
    ]
    places = np.array(found, dtype=np.int64).reshape(-1, 2)
    return places[:, 0], places[:, 1]


def _key(run: Headline, name: str, trial: int, take: int) -> Key:
    return name, trial if run.trials > 1 else 0, take if run.takes > 1 else 0
