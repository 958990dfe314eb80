"""What a model takes from its demonstrations: their images, their labels, or their format alone."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from emu2eval.compare.comparison import Difference, compare, headline, matched
from emu2eval.engine.evaluation import reopen
from emu2eval.engine.scoring import build_cleaner
from emu2eval.engine.stored import StoredRun
from emu2eval.errors import CompareError
from emu2eval.statistics.estimates import ClusteredMean, estimate
from emu2eval.statistics.student_t import quantile
from emu2eval.types import Sample, Score

PARTS = {
    "labels": "the right labels",
    "images": "the right images",
    "blank": "images at all",
    "order": "the order",
}
"""What is lost with each ablation."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of what demonstrations bring: a difference of two runs, on the metric's scale.

    of: what it is the part of, such as "the right labels". share: of the whole gain, with a 95 % interval
    by the delta method; None where the gain itself may be nothing, or the metric is no mean.
    """

    task: str
    protocol: str
    split: str
    model: str
    shots: str
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
    """How often answers equal one of their own demonstrations' replies (percent, with a 95 % interval).

    chance: the same for demonstrations of other queries. known: queries whose right answer is among theirs.
    """

    task: str
    protocol: str
    split: str
    model: str
    shots: str
    copied: float | None
    low: float | None
    high: float | None
    chance: float | None
    known: float | None
    n: int
    run: str


def parts(runs: Sequence[StoredRun]) -> list[Part]:
    """For each model and number of shots: the whole gain over none, and what of it each part brings.

    Parts are k shots less k shots with that part taken away. What is left with labels dealt, against no
    demonstration, is the format's: the set of labels, how answers look, what images are like. Labels and
    images work together, so their parts overlap and need not add up.
    """
    found: list[Part] = []
    for group in _groups(runs):
        plain = {run.record["shots"]: run for run in group if run.ablation == "none"}
        zero = plain.get("0")
        for shots, whole in plain.items():
            ablated = {
                run.ablation: run
                for run in group
                if run.ablation != "none" and run.record["shots"] == shots
            }
            if shots == "0" or not (zero or ablated):
                continue
            gain = compare(zero, whole).differences[0] if zero else None
            if gain is not None:
                found.append(_part(whole, "all (against 0 shots)", gain))
            for name, of in PARTS.items():
                if name in ablated:
                    lost = compare(ablated[name], whole).differences[0]
                    share = _share(zero, whole, ablated[name], gain)
                    found.append(_part(whole, of, lost, share))
            if zero is not None and "labels" in ablated:
                left = compare(zero, ablated["labels"]).differences[0]
                share = _share(zero, whole, ablated["labels"], gain, left=True)
                found.append(_part(whole, "the format (labels dealt)", left, share))
    return found


def _groups(runs: Sequence[StoredRun]) -> list[list[StoredRun]]:
    """Runs that differ in shots and ablation alone."""
    by_kind: dict[tuple[str, ...], list[StoredRun]] = {}
    seen: dict[tuple[str, ...], StoredRun] = {}
    for run in runs:
        kind = (run.task, run.record["protocol"], run.record["split"], run.model)
        if (*kind, run.shots) in seen:
            other = seen[(*kind, run.shots)]
            raise CompareError(
                f"there are two runs of {run.model} on {run.task} at {run.shots} shots",
                hint=f"name one of them: {other.folder.name} or {run.folder.name}",
            )
        seen[(*kind, run.shots)] = run
        by_kind.setdefault(kind, []).append(run)
    return list(by_kind.values())


_Share = tuple[float, float | None, float | None]


def _part(run: StoredRun, of: str, made: Difference, share: _Share | None = None) -> Part:
    ratio, low, high = share or (None, None, None)
    return Part(
        task=run.task,
        protocol=run.record["protocol"],
        split=run.record["split"],
        model=run.model,
        shots=run.shots,
        metric=made.metric,
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
    zero: StoredRun | None,
    whole: StoredRun,
    ablated: StoredRun,
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
    before = {(b.id, b.trial): read(a) for a, b in matched(zero, whole)[0]}
    offs = []
    for a, b in matched(ablated, whole)[0]:
        base, without, with_all = before.get((b.id, b.trial)), read(a), read(b)
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


def copying(run: StoredRun) -> Copying | None:
    """How often a run with demonstrations copies; None without any, or where answers are no texts.

    Reads the data, since replies are not stored. Raises UserError where it is not there.
    """
    if run.record["shots"] == "0" or run.record["task"]["output"]["kind"] == "image":
        return None
    plan, store = reopen(run.folder, demonstrations=True)
    store.close()
    plan.prepare()
    clean = build_cleaner(plan.task)
    said: list[tuple[Sample, str]] = []
    shown: list[frozenset[str]] = []
    copied, known = ClusteredMean(100), ClusteredMean(100)
    clusters: Counter[str] = Counter()
    for trial in range(plan.draws):
        for position in plan.positions:
            answer = run.answers.get((plan.samples.ids[position], trial))
            if answer is None or answer.prediction is None or answer.value is None:
                continue
            planned = plan.at(position, trial)
            replies = frozenset(
                clean("".join(part for part in turn.reply if isinstance(part, str)))
                for turn in planned.request.prompt.turns
            )
            said.append((planned.sample, answer.prediction))
            shown.append(replies)
            right = {clean(r) for r in planned.sample.references if isinstance(r, str)}
            known.add(planned.sample, Score(float(bool(right & replies))))
            copied.add(planned.sample, Score(float(answer.prediction in replies)))
            clusters[planned.sample.cluster or planned.sample.id] += 1
    if not said:
        return None
    made = estimate(copied, [], clusters.values())
    return Copying(
        run.task,
        run.record["protocol"],
        run.record["split"],
        run.model,
        run.shots,
        made.value,
        made.low,
        made.high,
        _by_chance(said, shown),
        known.value(),
        len(said),
        run.folder.name,
    )


def _by_chance(said: Sequence[tuple[Sample, str]], shown: Sequence[frozenset[str]]) -> float | None:
    """Percent of answers among the replies shown to another query, one of another cluster."""
    everywhere: Counter[str] = Counter()
    inside: Counter[tuple[str, str]] = Counter()
    sizes: Counter[str] = Counter()
    for (sample, _), replies in zip(said, shown, strict=True):
        cluster = sample.cluster or sample.id
        sizes[cluster] += 1
        everywhere.update(replies)
        inside.update((cluster, reply) for reply in replies)
    rates = []
    for sample, prediction in said:
        cluster = sample.cluster or sample.id
        others = len(said) - sizes[cluster]
        if others:
            rates.append((everywhere[prediction] - inside[cluster, prediction]) / others)
    return 100 * math.fsum(rates) / len(rates) if rates else None
