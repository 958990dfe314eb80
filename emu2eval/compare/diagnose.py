"""What a model takes from its demonstrations: their images, their labels, or their format alone."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from emu2eval.compare.comparison import Difference, compare, headline, matched
from emu2eval.engine.prompting import Prompted
from emu2eval.engine.questions import Place
from emu2eval.engine.reopen import Reopened, reopen
from emu2eval.errors import CompareError, StoreError
from emu2eval.runs.apart import labels
from emu2eval.runs.scored import Key, ScoredRun
from emu2eval.statistics.estimates import ClusteredMean, estimate
from emu2eval.statistics.student_t import quantile
from emu2eval.types import Sample, Score, Shots

PARTS = {
    "labels": "correct labels",
    "images": "matching images",
    "blank": "having images",
    "order": "the order",
}
"""What is lost with each ablation."""


@dataclass(frozen=True, slots=True)
class Contribution:
    """A part of what demonstrations bring: a difference of two runs, on the metric's scale.

    protocol, shots: as tables show them. metric: its whole name. of: what it is the part of, such as "the
    right labels". share: of the whole gain, with a 95 % interval by the delta method; None where the gain
    itself may be nothing, or the metric is no mean.
    """

    task: str
    protocol: str
    split: str
    model: str
    shots: str
    seed: int
    metric: str
    of: str
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    n: int
    share: float | None = None
    share_low: float | None = None
    share_high: float | None = None
    runs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Copying:
    """How often answers equal a reply of one of their own demonstrations (percent, with a 95 % interval).

    protocol, shots: as tables show them. chance: the same for demonstrations of other queries. known: queries
    with the correct answer among the demonstrations that were shown.
    """

    task: str
    protocol: str
    split: str
    model: str
    shots: str
    seed: int
    copied: float | None
    low: float | None
    high: float | None
    chance: float | None
    known: float | None
    n: int
    run: str


@dataclass(frozen=True)
class _Group:
    """Runs that differ in shots, ablation and seed alone. model: as tables name it beside the others."""

    model: str
    runs: Mapping[tuple[Shots, str, int], ScoredRun]

    def zero(self, seed: int) -> ScoredRun | None:
        """The run without demonstrations: of that seed, or the only one, since nothing is drawn for it."""
        found = {key[2]: run for key, run in self.runs.items() if not key[0].count}
        return found.get(seed) or (next(iter(found.values())) if len(found) == 1 else None)

    def whole(self) -> Iterator[ScoredRun]:
        """The runs with demonstrations from which nothing is taken away."""
        for (shots, ablation, _), run in self.runs.items():
            if shots.count and ablation == "none":
                yield run

    def ablated(self, whole: ScoredRun) -> dict[str, ScoredRun]:
        """The runs with the same demonstrations from which something is taken away, by what it is."""
        record = whole.record
        return {
            ablation: run
            for (shots, ablation, seed), run in self.runs.items()
            if ablation != "none" and (shots, seed) == (record.shots, record.seed)
        }


def contributions(runs: Sequence[ScoredRun]) -> list[Contribution]:
    """For each model and number of shots: the whole gain over none, and what of it each part brings.

    Parts are k shots less k shots with that part taken away. What is left with labels dealt, against no
    demonstration, is the format's: the set of labels, how answers look, what images are like. Labels and
    images work together, so their parts overlap and need not add up.
    """
    found: list[Contribution] = []
    for group in _groups(runs):
        for whole in group.whole():
            made = _of(whole, group.zero(whole.record.seed), group.ablated(whole))
            found += [replace(each, model=group.model) for each in made]
    return found


def _of(
    whole: ScoredRun, zero: ScoredRun | None, ablated: Mapping[str, ScoredRun]
) -> Iterator[Contribution]:
    gain = compare(zero, whole).differences[0] if zero else None
    if gain is not None:
        yield _contribution(whole, "all (vs. 0 shots)", gain)
    for name, of in PARTS.items():
        if name in ablated:
            lost = compare(ablated[name], whole).differences[0]
            yield _contribution(whole, of, lost, _share(zero, whole, ablated[name], gain))
    if zero is not None and "labels" in ablated:
        left = compare(zero, ablated["labels"]).differences[0]
        share = _share(zero, whole, ablated["labels"], gain, left=True)
        yield _contribution(whole, "the format (labels shuffled)", left, share)


def _groups(runs: Sequence[ScoredRun]) -> list[_Group]:
    by_kind: dict[tuple[str, ...], dict[tuple[Shots, str, int], ScoredRun]] = {}
    for run, model in zip(runs, labels([run.record for run in runs]), strict=True):
        record = run.record
        kind = (run.task, record.protocol_label, record.task.split, model)
        own = by_kind.setdefault(kind, {})
        key = (record.shots, record.ablation, record.seed)
        if key in own:
            raise CompareError(
                f"there are two runs of {model} on {run.task} at {record.setting} shots",
                hint=f"name one: {own[key].name} or {run.name}",
            )
        own[key] = run
    return [_Group(kind[-1], own) for kind, own in by_kind.items()]


_Share = tuple[float, float | None, float | None]


def _contribution(
    run: ScoredRun, of: str, made: Difference, share: _Share | None = None
) -> Contribution:
    ratio, low, high = share or (None, None, None)
    return Contribution(
        task=run.task,
        protocol=run.record.protocol_label,
        split=run.record.task.split,
        model=run.model,
        shots=run.record.setting,
        seed=run.record.seed,
        metric=made.label,
        of=of,
        difference=made.difference,
        low=made.low,
        high=made.high,
        p=made.p,
        n=made.n,
        share=ratio,
        share_low=low,
        share_high=high,
        runs=(made.first_run, made.second_run),
    )


def _share(
    zero: ScoredRun | None,
    whole: ScoredRun,
    ablated: ScoredRun,
    gain: Difference | None,
    *,
    left: bool = False,
) -> _Share | None:
    """A part over the gain, in percent; left: what the ablation leaves of it instead of what it takes."""
    if zero is None or gain is None or gain.low is None or gain.high is None:
        return None
    read = headline(whole)
    if gain.low <= 0 <= gain.high or read is None:
        return None
    before = {b.key: read(a) for a, b in matched(zero, whole)[0]}
    offs = []
    for a, b in matched(ablated, whole)[0]:
        base, without, with_all = before.get(b.key), read(a), read(b)
        if base is None or without is None or with_all is None:
            continue
        part = without - base if left else with_all - without
        offs.append((b.cluster, part, with_all - base))
    total = math.fsum(g for *_, g in offs)
    if not offs or not total:
        return None
    ratio = math.fsum(p for _, p, _ in offs) / total
    # The ratio's error is that of what each cluster's part is off its share of the gain.
    sums: defaultdict[str, float] = defaultdict(float)
    for cluster, part, own in offs:
        sums[cluster] += part - ratio * own
    count = len(sums)
    if count < 2 or not any(part for _, part, _ in offs):
        # Where nothing differs there is nothing to tell an error from.
        return 100 * ratio, None, None
    squares = math.fsum(value**2 for value in sums.values())
    reach = quantile(count - 1.0) * math.sqrt(squares * count / (count - 1)) / abs(total)
    return 100 * ratio, 100 * (ratio - reach), 100 * (ratio + reach)


def copying(run: ScoredRun) -> Copying | None:
    """How often a run with demonstrations copies; None without any, or where answers are no texts.

    Counts what each answer was really shown, which --fit may have made less than what was drawn. Reads the
    data, since replies are not stored. Raises UserError where it is not there.
    """
    record = run.record
    if not record.shots.count or record.identity.task.output.get("kind") == "image":
        return None
    reopened = reopen(run.folder, demonstrations=True)
    with reopened.store:
        reopened.index()
        said = list(_said(run, reopened))
    if not said:
        return None
    copied, known = ClusteredMean(100), ClusteredMean(100)
    clusters: Counter[str] = Counter()
    for each in said:
        known.add(each.sample, Score(float(bool(each.right & each.replies))))
        copied.add(each.sample, Score(float(each.prediction in each.replies)))
        clusters[each.cluster] += 1
    made = estimate(copied, [], clusters.values())
    return Copying(
        task=run.task,
        protocol=record.protocol_label,
        split=record.task.split,
        model=run.model,
        shots=record.setting,
        seed=record.seed,
        copied=made.value,
        low=made.low,
        high=made.high,
        chance=_by_chance(said),
        known=known.value(),
        n=len(said),
        run=run.name,
    )


@dataclass(frozen=True, slots=True)
class _Said:
    """What was answered to a query, the replies of its demonstrations, and its correct answers."""

    sample: Sample
    prediction: str
    replies: frozenset[str]
    right: frozenset[str]

    @property
    def cluster(self) -> str:
        return self.sample.cluster or self.sample.id


def _said(run: ScoredRun, reopened: Reopened) -> Iterator[_Said]:
    questions = reopened.questions
    clean = questions.task.clean
    for place in questions:
        key: Key = (questions.samples.ids[place.position], place.trial, place.take)
        score = run.scores.get(key)
        if score is None or score.prediction is None or score.value is None:
            continue
        shown = _shown(run, reopened, place)
        replies = (
            "".join(p for p in turn.reply if isinstance(p, str)) for turn in shown.prompt.turns
        )
        right = (clean(r) for r in shown.sample.references if isinstance(r, str))
        yield _Said(
            shown.sample, score.prediction, frozenset(map(clean, replies)), frozenset(right)
        )


def _shown(run: ScoredRun, reopened: Reopened, place: Place) -> Prompted:
    """The prompt that was really given. Raises StoreError where that is not known."""
    assert reopened.prompts is not None
    answer = reopened.store.stored(reopened.questions.slot(place))
    if answer is None:
        # A reference keeps scores alone. What was drawn was shown, unless some of it was dropped.
        if run.rows[0].shortened:
            raise StoreError(
                "some prompts were shortened, and the run does not record which demonstrations were dropped",
                where=run.folder,
                hint="diagnose the original run instead of its reference copy",
            )
        return reopened.prompts.at(place)
    shown = reopened.prompts.at(place, left_out=answer.left_out)
    if tuple(each.sample.id for each in shown.demonstrations) != answer.examples:
        raise StoreError(
            f"the answer to {answer.id!r} was given with different demonstrations than are drawn now",
            where=run.folder,
            hint="rerun the evaluation",
        )
    return shown


def _by_chance(said: Sequence[_Said]) -> float | None:
    """Percent of answers among the replies shown to another query, one of another cluster."""
    everywhere: Counter[str] = Counter()
    inside: Counter[tuple[str, str]] = Counter()
    sizes: Counter[str] = Counter()
    for each in said:
        sizes[each.cluster] += 1
        everywhere.update(each.replies)
        inside.update((each.cluster, reply) for reply in each.replies)
    rates = []
    for each in said:
        others = len(said) - sizes[each.cluster]
        if others:
            among = everywhere[each.prediction] - inside[each.cluster, each.prediction]
            rates.append(among / others)
    return 100 * math.fsum(rates) / len(rates) if rates else None
