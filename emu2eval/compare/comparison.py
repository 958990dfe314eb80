"""Runs compared sample by sample: how much they differ, whether that can be chance, and where."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from emu2eval.compare.comparable import incomparable, settings_apart
from emu2eval.engine.reopen import reopen
from emu2eval.engine.tasks import scorer_of
from emu2eval.errors import CompareError, UserError
from emu2eval.runs.scored import Key, ScoredRun
from emu2eval.runs.scores import SampleScore
from emu2eval.scorers.base import Scorer, Summary
from emu2eval.statistics.bootstrap import Bootstrap
from emu2eval.statistics.estimates import Accumulator, ClusteredMean, Linearized
from emu2eval.statistics.paired import (
    Paired,
    holm,
    paired_bootstrap,
    paired_influences,
    paired_jackknife,
    paired_means,
)
from emu2eval.types import Sample, metric_label

Pairs = list[tuple[SampleScore, SampleScore]]


@dataclass(frozen=True, slots=True)
class Difference:
    """The second run against the first, on the samples that both have scored, on the metric's scale.

    protocol: as tables show it. metric, variant, judge: as in a row. error, low, high: clustered standard
    error and 95 % interval of the difference. p: of no difference, by sign flips of whole clusters; holm:
    corrected for all comparisons shown; mcnemar: by McNemar's exact test, which takes samples for
    independent. wins, losses, ties: samples at which the second one is better, worse, the same; None for a
    metric that gives samples no values. detectable: the smallest true difference found with 80 % power at
    this size. digits: how many to show after the point.
    unmatched: samples that only one of them has; unscored: those unscored in either.
    """

    task: str
    protocol: str
    split: str
    metric: str
    first: str
    second: str
    first_value: float | None
    second_value: float | None
    difference: float | None
    error: float | None
    low: float | None
    high: float | None
    p: float | None
    holm: float | None
    mcnemar: float | None
    wins: int | None
    losses: int | None
    ties: int | None
    n: int
    clusters: int
    detectable: float | None
    unmatched: int
    unscored: int
    higher_is_better: bool = True
    digits: int = 2
    group: str | None = None
    forced: bool = False
    notes: tuple[str, ...] = ()
    first_run: str = ""
    second_run: str = ""
    variant: str | None = None
    judge: str | None = None

    @property
    def label(self) -> str:
        """The whole name of what was measured."""
        return metric_label(self.metric, self.variant, self.judge)


@dataclass(frozen=True, slots=True)
class Flip:
    """A sample at which two runs differ. better: whether the second one's value is the better one."""

    task: str
    first: str
    second: str
    id: str
    trial: int
    take: int
    cluster: str
    first_value: float
    second_value: float
    first_prediction: str | None
    second_prediction: str | None
    better: bool


@dataclass(frozen=True)
class Comparison:
    """The whole first, then other metrics, then sub-scores; the flipped samples, largest change first."""

    differences: tuple[Difference, ...]
    flips: tuple[Flip, ...]


def compare(first: ScoredRun, second: ScoredRun, *, force: bool = False) -> Comparison:
    """Two runs. Raises CompareError where they did not answer the same questions, unless forced."""
    blank = undecided(first, second, force=force)
    pairs, unmatched = matched(first, second)
    known = [(a, b) for a, b in pairs if a.value is not None and b.value is not None]
    if not known:
        raise CompareError(
            "these runs have no scored sample in common",
            where=f"{first.name} and {second.name}",
        )
    blank = replace(blank, unmatched=unmatched, unscored=len(pairs) - len(known))
    scorer = scorer_of(first.record)
    differences = list(_of_summaries(first, second, scorer, known, blank))
    if not differences:
        raise CompareError(
            f"the run's report has no row for {scorer.metric}", where=first.name,
            hint=f"rescore the run: emu2eval score {first.folder}",
        )  # fmt: skip
    groups: dict[str, Pairs] = {}
    for pair in known:
        for label in pair[0].labels():
            groups.setdefault(label, []).append(pair)
    for label, inside in sorted(groups.items()):
        about = replace(blank, group=label, unmatched=0, unscored=0)
        differences += _of_summaries(first, second, scorer, inside, about)
    flips = tuple(_flips(first, second, scorer, known))
    return Comparison(tuple(differences), flips)


def undecided(first: ScoredRun, second: ScoredRun, *, force: bool = False) -> Difference:
    """All that is known of a comparison before a score is looked at. Raises CompareError as `compare`."""
    reasons = incomparable(first, second)
    if reasons and not force:
        raise CompareError(
            "these runs cannot be compared: " + "; ".join(reasons),
            where=f"{first.name} and {second.name}",
            hint="compare runs of the same task, protocol, split and data, or use --force to compare anyway",
        )
    notes = [f"forced: {reason}" for reason in reasons] + settings_apart(first, second)
    return Difference(
        task=first.task,
        protocol=first.record.protocol_label,
        split=first.record.task.split,
        metric="",
        first=first.label,
        second=second.label,
        first_value=None,
        second_value=None,
        difference=None,
        error=None,
        low=None,
        high=None,
        p=None,
        holm=None,
        mcnemar=None,
        wins=None,
        losses=None,
        ties=None,
        n=0,
        clusters=0,
        detectable=None,
        unmatched=0,
        unscored=0,
        forced=bool(reasons),
        notes=tuple(dict.fromkeys(notes)),
        first_run=first.name,
        second_run=second.name,
    )


def compare_all(pairs: Sequence[tuple[ScoredRun, ScoredRun]], *, force: bool = False) -> Comparison:
    """Several comparisons, those of the headlines corrected together."""
    made = [compare(first, second, force=force) for first, second in pairs]
    corrected = iter(holm([c.differences[0].p for c in made]))
    differences: list[Difference] = []
    for each in made:
        head, *rest = each.differences
        differences += [replace(head, holm=next(corrected) if len(made) > 1 else None), *rest]
    return Comparison(tuple(differences), tuple(f for c in made for f in c.flips))


def matched(first: ScoredRun, second: ScoredRun) -> tuple[Pairs, int]:
    """The scores of the same sample in the same trial and take, and how many have no partner.

    A run of one trial, such as one without demonstrations, stands beside every trial of the other; likewise
    for takes.
    """
    pairs: Pairs = []
    used: tuple[set[Key], set[Key]] = set(), set()
    for name in sorted({name for name, *_ in first.scores}):
        for trial in range(max(first.trials, second.trials)):
            for take in range(max(first.takes, second.takes)):
                keys = [_own(run, name, trial, take) for run in (first, second)]
                if keys[0] in first.scores and keys[1] in second.scores:
                    pairs.append((first.scores[keys[0]], second.scores[keys[1]]))
                    used[0].add(keys[0])
                    used[1].add(keys[1])
    return pairs, len(first.scores) - len(used[0]) + len(second.scores) - len(used[1])


def _own(run: ScoredRun, name: str, trial: int, take: int) -> Key:
    return name, trial if run.trials > 1 else 0, take if run.takes > 1 else 0


def _of_summaries(
    first: ScoredRun, second: ScoredRun, scorer: Scorer, pairs: Pairs, about: Difference
) -> Iterator[Difference]:
    scored = {(row.metric, row.variant): row for row in first.rows if row.group is None}
    for place, summary in enumerate(scorer.summaries()):
        row = scored.get((summary.metric, summary.variant))
        if row is None or (summary.whole and about.group is not None):
            continue  # a number of a judge's, and nobody was asked; or one of the whole alone
        about = replace(about, metric=row.metric, variant=row.variant, judge=row.judge)
        found = _paired(first, second, scorer, pairs, place, summary)
        if found is None:
            if place == 0:
                note = f"{row.label} cannot be compared sample by sample"
                yield replace(about, notes=(*about.notes, note))
            continue
        made, (one, other), better = found
        wins, losses = (made.up, made.down) if better else (made.down, made.up)
        yield replace(
            about,
            first_value=one,
            second_value=other,
            difference=made.difference,
            error=made.error,
            low=made.low,
            high=made.high,
            p=made.p,
            mcnemar=made.mcnemar,
            wins=wins,
            losses=losses,
            ties=made.n - wins - losses if wins is not None and losses is not None else None,
            n=made.n,
            clusters=made.clusters,
            detectable=made.detectable,
            higher_is_better=better,
            digits=summary.digits,
        )


_Found = tuple[Paired, tuple[float | None, float | None], bool]


def _paired(
    first: ScoredRun,
    second: ScoredRun,
    scorer: Scorer,
    pairs: Pairs,
    place: int,
    summary: Summary,
) -> _Found | None:
    better, accumulator = summary.higher_is_better, summary.accumulator
    mean = _as_mean(first, scorer, accumulator, place)
    if mean is not None:
        read, scale = mean
        known = [(a, b) for a, b in pairs if read(a) is not None and read(b) is not None]
        if not known:
            return None
        one = [float(read(a) or 0.0) for a, _ in known]
        other = [float(read(b) or 0.0) for _, b in known]
        made = paired_means(one, other, [a.cluster for a, _ in known], scale)
        values = math.fsum(one) / len(one) * scale, math.fsum(other) / len(other) * scale
        return made, values, better
    samples = _samples(first, pairs)
    if samples is None:
        return None
    return _by_accumulators(scorer, pairs, samples, place, better)


ReadValue = Callable[[SampleScore], float | None]


def headline(run: ScoredRun, scorer: Scorer | None = None) -> ReadValue | None:
    """What a sample counts in the headline; None where that is no mean over samples."""
    scorer = scorer or scorer_of(run.record)
    mean = _as_mean(run, scorer, scorer.summaries()[0].accumulator, 0)
    return mean[0] if mean is not None else None


def headline_of(run: ScoredRun, scorer: Scorer) -> tuple[ReadValue, float] | None:
    """As `headline`, with its scale; None, too, where the run's first row is not of the first summary."""
    summary, row = scorer.summaries()[0], run.rows[0]
    if (row.metric, row.variant) != (summary.metric, summary.variant):
        return None
    return _as_mean(run, scorer, summary.accumulator, 0)


def _as_mean(
    run: ScoredRun, scorer: Scorer, accumulator: Accumulator, place: int
) -> tuple[ReadValue, float] | None:
    """How to read a metric that is a mean over samples off a score, and its scale."""
    if isinstance(accumulator, ClusteredMean):
        of = accumulator.of
        if of is None:
            return (lambda score: score.value), accumulator.scale
        return (lambda score: score.details.get(of)), accumulator.scale
    if place or run.rows[0].value is None:
        return None
    # A metric with a way of its own, such as CIDEr, may still be the mean of what it said of each sample.
    values = [score.value for score in run.scores.values() if score.value is not None]
    mean = math.fsum(values) / len(values) * scorer.scale
    if not math.isclose(mean, run.rows[0].value, rel_tol=1e-6, abs_tol=1e-9):
        return None
    return (lambda score: score.value), scorer.scale


def _samples(run: ScoredRun, pairs: Pairs) -> list[Sample] | None:
    """The samples themselves, which some metrics look at; None where the data is not there."""
    try:
        reopened = reopen(run.folder)
    except UserError:
        return None
    reopened.store.close()
    questions = reopened.questions
    places = [questions.samples.position(score.id) for score, _ in pairs]
    if any(place is None for place in places):
        return None
    return [questions.query(place) for place in places if place is not None]


def _by_accumulators(
    scorer: Scorer, pairs: Pairs, samples: list[Sample], place: int, better: bool
) -> _Found | None:
    def make() -> Accumulator:
        return scorer.summaries()[place].accumulator

    def feed(one: Accumulator, other: Accumulator, places: Sequence[int]) -> None:
        for i in places:
            for accumulator, score in zip((one, other), pairs[i], strict=True):
                accumulator.add(samples[i], score.score)

    one, other = make(), make()
    try:
        feed(one, other, range(len(pairs)))
        if isinstance(one, Bootstrap) and isinstance(other, Bootstrap):
            made = paired_bootstrap(one, other)
        elif isinstance(one, Linearized) and isinstance(other, Linearized):
            made = paired_influences(one, other, len(pairs))
        else:
            made = paired_jackknife(make, feed, [score.cluster for score, _ in pairs])
        values = one.value(), other.value()
    except (KeyError, TypeError, ValueError):
        # It needs more than what was stored, such as the details that a reference leaves out.
        return None
    return (made, values, better) if made is not None else None


def _flips(first: ScoredRun, second: ScoredRun, scorer: Scorer, pairs: Pairs) -> Iterator[Flip]:
    read = headline(first, scorer)
    if read is None:
        return
    higher = scorer.summaries()[0].higher_is_better
    values = ((a, b, read(a), read(b)) for a, b in pairs)
    apart = [
        (a, b, one, other)
        for a, b, one, other in values
        if one is not None and other is not None and abs(other - one) > 1e-9
    ]
    for a, b, one, other in sorted(apart, key=lambda e: (-abs(e[3] - e[2]), e[0].id, e[1].key)):
        yield Flip(
            task=first.task,
            first=first.label,
            second=second.label,
            id=a.id,
            trial=max(a.trial, b.trial),
            take=max(a.take, b.take),
            cluster=a.cluster,
            first_value=float(one),
            second_value=float(other),
            first_prediction=a.prediction,
            second_prediction=b.prediction,
            better=(other > one) == higher,
        )
