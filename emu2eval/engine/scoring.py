"""Stored responses -> scores.jsonl and report.json. Never needs the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from emu2eval import registry
from emu2eval.engine.plan import Plan
from emu2eval.errors import ConfigError
from emu2eval.runs.store import RunStore
from emu2eval.scorers.base import Scorer, Summary
from emu2eval.scorers.judged import JudgedScorer
from emu2eval.spec.config import Task
from emu2eval.statistics.estimates import Estimate, estimate
from emu2eval.types import Progress, Response, Row, Sample, Score

UNJUDGED = "unjudged"
"""The detail of a score that says why what a judge would add to it is missing."""


def build_scorer(task: Task) -> Scorer:
    """The task's scorer. Raises ConfigError where it cannot score the task's kind of output."""
    spec = task.spec.score
    where = task.document.where(("score", "scorer"))
    at = task.document.below(("score", "options"))
    scorer: Scorer = registry.build("scorer", spec.scorer, spec.options, where=where, at=at)
    kind = task.spec.output.kind
    if kind not in scorer.outputs:
        raise ConfigError(
            f"the scorer {spec.scorer!r} scores {' or '.join(sorted(scorer.outputs))}, "
            f"the task asks for {kind}",
            where=where,
        )
    return scorer


def build_cleaner(task: Task) -> Callable[[str], str]:
    """The task's clean-up steps as one function. Raises UnknownName."""
    where = task.document.where(("score", "clean"))
    steps = [registry.find("cleaner", name, where=where) for name in task.spec.score.clean]

    def clean(text: str) -> str:
        for step in steps:
            text = step(text)
        return text

    return clean


@dataclass
class _Total:
    """The numbers of the whole or of a group: over all trials, and of each trial by itself."""

    scorer: Scorer
    draws: int
    group: bool = False
    n: int = 0
    unscored: int = 0
    unjudged: int = 0
    clusters: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.summaries = self._made()
        # Of a single trial there is nothing to tell apart.
        trials = self.draws if self.draws > 1 else 0
        self.trials = [self._made() for _ in range(trials)]

    def _made(self) -> tuple[Summary, ...]:
        return tuple(s for s in self.scorer.summaries() if not (self.group and s.whole))

    def add(self, sample: Sample, score: Score, trial: int) -> None:
        if score.value is None:
            self.unscored += 1
            return
        self.n += 1
        self.unjudged += UNJUDGED in (score.details or ())
        self.clusters[sample.cluster or sample.id] += 1
        for summary in (*self.summaries, *(self.trials[trial] if self.trials else ())):
            summary.accumulator.add(sample, score)

    def estimates(self) -> Iterator[tuple[Summary, Estimate]]:
        for place, summary in enumerate(self.summaries):
            trials = [summaries[place].accumulator for summaries in self.trials]
            yield summary, estimate(summary.accumulator, trials, self.clusters.values())


@dataclass
class _Totals:
    """Adds up the scores of a run: the whole, and each label of each grouping."""

    scorer: Scorer
    draws: int
    whole: _Total = field(init=False)
    groups: dict[str, _Total] = field(default_factory=dict)
    seconds: float = 0.0
    shortened: int = 0
    marks: Counter[str] = field(default_factory=Counter)
    servers: set[str] = field(default_factory=set)
    tiled: int = 0
    encoders: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.whole = _Total(self.scorer, self.draws)

    def add(self, sample: Sample, score: Score, trial: int) -> None:
        for total in (self.whole, *self._groups(sample)):
            total.add(sample, score, trial)

    def _groups(self, sample: Sample) -> Iterator[_Total]:
        for name, label in sample.groups.items():
            for each in (label,) if isinstance(label, str) else label:
                key = f"{name}: {each}"
                if key not in self.groups:
                    self.groups[key] = _Total(self.scorer, self.draws, group=True)
                yield self.groups[key]


class Verdicts(Protocol):
    """What a judge said of a run's responses. name: of the judge, as tables show it."""

    @property
    def name(self) -> str: ...
    def score(self, slot: int, sample: Sample, response: Response) -> Score: ...


def score_run(
    plan: Plan,
    store: RunStore,
    verdicts: Verdicts | None = None,
    progress: Progress | None = None,
) -> list[Row]:
    """Scores every sample of the plan and writes the result: the rows of the whole, its headline first,
    then those of the sub-scores. verdicts: of the judge, where the scorer needs one.
    progress: told of long work, such as features of images.

    A response that failed, or is not there yet, is unscored: counted, never taken as zero.
    """
    scorer = build_scorer(plan.task)
    totals = _Totals(scorer, plan.trials_that_differ)
    store.write_lines("scores.jsonl", _scores(plan, store, scorer, totals, verdicts, progress))
    totals.encoders = scorer.encoders()
    by = verdicts.name if verdicts is not None else None
    rows = _rows(plan, store, totals, None, totals.whole, by)
    for name, total in sorted(totals.groups.items()):
        rows += _rows(plan, store, totals, name, total, by)
    store.write_json("report.json", {"rows": rows})
    return rows


def answers_of(plan: Plan, store: RunStore, kind: Literal["clean", "prediction"]) -> dict[str, str]:
    """Query id -> the answer of its first trial, for the queries that have one.

    kind: clean = the text after the task's clean-up; prediction = what the scorer read out of it.
    """
    scorer, clean = build_scorer(plan.task), build_cleaner(plan.task)
    found: dict[str, str] = {}
    for position in plan.positions:
        response = response_of(store.stored(position), clean, store)
        if response is None:
            continue
        answer = response.text
        if kind == "prediction":
            answer = scorer.score(plan.query(position), response).prediction
        if answer is not None:
            found[plan.samples.ids[position]] = answer
    return found


def _scores(
    plan: Plan,
    store: RunStore,
    scorer: Scorer,
    totals: _Totals,
    verdicts: Verdicts | None,
    progress: Progress | None,
) -> Iterator[dict[str, Any]]:
    samples = plan.samples
    clean = build_cleaner(plan.task)
    scorer.prepare(_answered(plan, store, clean), progress)
    for trial in range(plan.draws):
        for position in plan.positions:
            sample = plan.query(position)
            slot = trial * len(samples) + position
            stored = store.stored(slot)
            response = response_of(stored, clean, store)
            if response is None:
                why = stored["error"] if stored is not None else "not asked yet"
                score = Score(None, details={"why": why})
            elif verdicts is not None:
                score = verdicts.score(slot, sample, response)
            else:
                score = scorer.score(sample, response)
            totals.add(sample, score, trial // plan.images)
            if stored is not None:
                totals.seconds += stored["seconds"]
                details = stored.get("details", {})
                totals.shortened += bool(details.get("dropped"))
                totals.marks.update(details.get("marks", ()))
                totals.servers.update(filter(None, [details.get("served_by")]))
                totals.tiled += bool(details.get("tiles"))
            row: dict[str, Any] = {
                "id": sample.id,
                "trial": trial,
                "value": score.value,
                "prediction": score.prediction,
                "scorer": scorer.label,
                "cluster": sample.cluster or sample.id,
                "groups": dict(sample.groups),
            }
            if score.details:
                row["details"] = dict(score.details)
            yield row


def _answered(
    plan: Plan, store: RunStore, clean: Callable[[str], str]
) -> Iterator[tuple[Sample, Response]]:
    """Every sample with a response that is no error."""
    for trial in range(plan.draws):
        for position in plan.positions:
            stored = store.stored(trial * len(plan.samples) + position)
            response = response_of(stored, clean, store)
            if response is not None:
                yield plan.query(position), response


def response_of(
    stored: dict[str, Any] | None, clean: Callable[[str], str], store: RunStore
) -> Response | None:
    """A stored response, its text cleaned up; None where there is none yet, or only an error."""
    if stored is None or stored.get("error"):
        return None
    text = stored.get("text")
    log_probs = stored.get("log_probs")
    image = stored.get("image")
    return Response(
        text=clean(text) if text is not None else None,
        log_probs=tuple(log_probs) if log_probs is not None else None,
        image=store.image(image) if image is not None else None,
        details=stored.get("details", {}),
    )


def _rows(
    plan: Plan,
    store: RunStore,
    totals: _Totals,
    group: str | None,
    total: _Total,
    judge: str | None,
) -> list[Row]:
    covered = len(plan.positions)
    notes = [plan.imported.note] if plan.imported is not None else []
    if covered < len(plan.samples):
        notes.append(f"{covered:,} of {len(plan.samples):,} queries")
    official = plan.task.spec.data.expected.get(plan.task.split)
    if official is not None and official.samples != len(plan.samples):
        notes.append(
            f"the split holds {len(plan.samples):,} samples, officially {official.samples:,}"
        )
    for role, source in plan.sources.items():
        notes.append(f"{role} from the {source}")
    if totals.shortened:
        notes.append(f"{totals.shortened:,} prompts shortened to fit")
    notes += [f"{count:,} {mark}" for mark, count in sorted(totals.marks.items())]
    if len(totals.servers) > 1:
        notes.append(f"the server changed its model: {', '.join(sorted(totals.servers))}")
    if totals.tiled:
        notes.append("demonstrations' images as tiles of one")
    rows: list[Row] = []
    scorer = totals.scorer
    for summary, found in total.estimates():
        if judge is None and summary.judged and isinstance(scorer, JudgedScorer):
            continue  # nobody was asked
        unjudged = total.unjudged if summary.judged else 0
        # Once is enough for these: with the headline of the whole.
        headline = group is None and not rows
        chance, ceiling = _bounds(plan) if headline else (None, None)
        own = totals.scorer.notes() if headline else ()
        rows.append(
            Row(
                task=plan.task.name,
                model=plan.model.name,
                shots=plan.label,
                protocol=plan.task.protocol_name,
                split=plan.task.split,
                ablation=plan.ablation if plan.ablation != "none" else None,
                # Numbers of two judges are no more comparable than those of two metrics.
                metric=f"{summary.metric} by {judge}"
                if judge and summary.judged
                else summary.metric,
                value=found.value,
                stderr=found.error,
                low=found.low,
                high=found.high,
                spread=found.spread,
                n=total.n - unjudged,
                unscored=total.unscored + unjudged,
                seconds=round(totals.seconds, 3),
                trials=plan.trials_that_differ,
                complete=covered == len(plan.samples),
                higher_is_better=summary.higher_is_better,
                set_scaled=summary.set_scaled,
                digits=summary.digits,
                encoder=totals.encoders.get(summary.metric),
                group=group,
                notes=(*notes, *own),
                run=store.folder.name,
                chance=chance,
                ceiling=ceiling,
            )
        )
    return rows


def _bounds(plan: Plan) -> tuple[float | None, float | None]:
    bounds = plan.task.spec.bounds.get(plan.task.split)
    # What text-only demonstrations can tell is another matter, and so is what ablated ones can.
    if bounds is None or plan.shots.text_only:
        return None, None
    chance, ceiling = bounds.at(plan.shots.count)
    return chance, ceiling if plan.ablation in ("none", "order") else None
