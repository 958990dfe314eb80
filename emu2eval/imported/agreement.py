"""Scores that a log gave its samples, beside ours of the same answers."""

from __future__ import annotations

import math
from dataclasses import dataclass

from emu2eval.engine.tasks import scorer_of
from emu2eval.runs.scored import ScoredRun
from emu2eval.runs.store import RunStore
from emu2eval.scorers.base import Scorer
from emu2eval.statistics.estimates import ClusteredMean

CLOSE = 1e-6


@dataclass(frozen=True, slots=True)
class Agreement:
    """Both means over the samples that both scored, on our metric's scale, and at how many they are equal.

    differing: (id, theirs, ours) of the others, on the scale of one sample.
    """

    name: str
    metric: str
    theirs: float
    ours: float
    n: int
    differing: tuple[tuple[str, float, float], ...]

    def __str__(self) -> str:
        text = (
            f"their {self.name} {self.theirs:.2f}, our {self.metric} {self.ours:.2f} "
            f"on {self.n:,} samples: equal on {self.n - len(self.differing):,}"
        )
        if self.differing:
            first = "; ".join(f"{i} ({a:g}, ours {b:g})" for i, a, b in self.differing[:3])
            more = "; …" if len(self.differing) > 3 else ""
            text += f", different on {len(self.differing):,}: {first}{more}"
        return text


def agreements(run: ScoredRun) -> tuple[list[Agreement], list[str]]:
    """What each score of the log has in common with ours; and the names of those that cannot be compared.

    Only what lies between 0 and 1 is, with metrics that are means over samples.
    """
    given: dict[str, dict[str, float]] = {}
    for answer in RunStore(run.folder).answers():
        for name, value in (answer.theirs or {}).items():
            given.setdefault(name, {})[answer.id] = value
    scorer = scorer_of(run.record)
    accumulator = scorer.summaries()[0].accumulator
    mean = isinstance(accumulator, ClusteredMean) and accumulator.of is None
    found, left = [], []
    for name, theirs in given.items():
        if not mean or not all(0 <= value <= 1 for value in theirs.values()):
            left.append(name)
            continue
        ours = {i: run.scores[i, 0, 0].value for i in theirs if (i, 0, 0) in run.scores}
        pairs = [(i, theirs[i], value) for i, value in sorted(ours.items()) if value is not None]
        if pairs:
            found.append(_agreement(name, run, scorer, pairs))
    return found, left


def _agreement(
    name: str, run: ScoredRun, scorer: Scorer, pairs: list[tuple[str, float, float]]
) -> Agreement:
    scale = scorer.scale / len(pairs)
    return Agreement(
        name=name,
        metric=run.rows[0].label,
        theirs=math.fsum(a for _, a, _ in pairs) * scale,
        ours=math.fsum(b for *_, b in pairs) * scale,
        n=len(pairs),
        differing=tuple(pair for pair in pairs if abs(pair[1] - pair[2]) > CLOSE),
    )
