"""Stored responses -> scores.jsonl and report.json. Never needs the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, Protocol

import msgspec

from emu2eval.engine.questions import Place, Questions
from emu2eval.errors import ImageError, of_part
from emu2eval.media import images
from emu2eval.runs.answers import Answer
from emu2eval.runs.record import Record
from emu2eval.runs.scores import SampleScore, write_rows, write_scores
from emu2eval.runs.store import RunStore
from emu2eval.scorers.base import Scorer, Summary
from emu2eval.scorers.judged import JudgedScorer
from emu2eval.statistics.estimates import Estimate, estimate
from emu2eval.types import AnswerSource, Mark, Progress, Published, Response, Row, Sample, Score

UNREADABLE = Mark("unreadable")
"""Of a query that could not be asked, since its row in the benchmark's file is damaged."""

DRAWN = Mark("drawn")
"""Of an answer that the model drew, where others give their likeliest."""


@dataclass
class _Total:
    """The numbers of the whole or of a group: over all trials, and of each trial by itself."""

    scorer: Scorer
    draws: int
    group: bool = False
    n: int = 0
    unscored: int = 0
    hidden: int = 0
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
        if score.value is None and not score.partial:
            self.hidden += score.hidden
            self.unscored += not score.hidden
            return
        self.n += 1
        self.unjudged += score.unjudged is not None
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
    marks: Counter[Mark] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.whole = _Total(self.scorer, self.draws)

    def add(self, sample: Sample, score: Score, trial: int) -> None:
        for total in (self.whole, *self._groups(sample)):
            total.add(sample, score, trial)

    def note(self, answer: Answer) -> None:
        """Counts what is said of the answer beside its score."""
        self.seconds += answer.seconds
        self.shortened += answer.left_out > 0
        self.marks.update(answer.marks)

    def _groups(self, sample: Sample) -> Iterator[_Total]:
        for name, label in sample.groups.items():
            for each in (label,) if isinstance(label, str) else label:
                key = f"{name}: {each}"
                if key not in self.groups:
                    self.groups[key] = _Total(self.scorer, self.draws, group=True)
                yield self.groups[key]


class Verdicts(Protocol):
    """What a judge said of a run's answers. name: of the judge, as tables show it."""

    @property
    def name(self) -> str: ...
    def score(self, place: Place, sample: Sample, response: Response) -> Score: ...


def score_run(
    record: Record,
    questions: Questions,
    store: RunStore,
    verdicts: Verdicts | None = None,
    progress: Progress | None = None,
) -> list[Row]:
    """Scores every answer and writes the result: the rows of the whole, its headline first, then those of
    the sub-scores. verdicts: of the judge, where the scorer needs one.
    progress: told of long work, such as features of images.

    A response that failed, or is not there yet, is unscored: counted, never taken as zero.
    """
    scorer = questions.task.scorer
    with of_part("scorer", questions.task.spec.score.scorer):
        totals = _Totals(scorer, questions.trials)
        write_scores(store.folder, _scores(questions, store, totals, verdicts, progress))
        about = _about(record, questions, store, totals)
        by = verdicts.name if verdicts is not None else None
        rows = list(_rows(about, totals, None, totals.whole, by))
        for name, total in sorted(totals.groups.items()):
            rows += _rows(about, totals, name, total, by)
    if rows:
        rows[0] = _headline(rows[0], questions, record, scorer)
    write_rows(store.folder, rows)
    return rows


def scored(
    record: Record,
    questions: Questions,
    store: RunStore,
    verdicts: Verdicts | None = None,
    progress: Progress | None = None,
) -> tuple[Row | None, list[SampleScore]]:
    """As `score_run`, with nothing written: the headline alone, and every score."""
    with of_part("scorer", questions.task.spec.score.scorer):
        totals = _Totals(questions.task.scorer, questions.trials)
        scores = list(_scores(questions, store, totals, verdicts, progress))
        about = _about(record, questions, store, totals)
        by = verdicts.name if verdicts is not None else None
        return next(_rows(about, totals, None, totals.whole, by), None), scores


def answers_of(
    questions: Questions, store: RunStore, kind: Literal["clean", "prediction"]
) -> dict[str, str]:
    """Query id -> the answer of its first trial, for the queries that have one.

    kind: clean = the text after the task's clean-up; prediction = what the scorer read out of it.
    """
    scorer, clean = questions.task.scorer, questions.task.clean
    found: dict[str, str] = {}
    for position in questions.asked:
        response = response_of(store.stored(questions.slot(Place(position))), clean, store)
        if response is None:
            continue
        answer = response.text
        if kind == "prediction":
            answer = scorer.score(questions.query(position), response).prediction
        if answer is not None:
            found[questions.samples.ids[position]] = answer
    return found


def _scores(
    questions: Questions,
    store: RunStore,
    totals: _Totals,
    verdicts: Verdicts | None,
    progress: Progress | None,
) -> Iterator[SampleScore]:
    scorer, clean = questions.task.scorer, questions.task.clean
    scorer.prepare(_answered(questions, store), progress)
    for place in _in_order(questions):
        sample = questions.query(place.position)
        answer = store.stored(questions.slot(place))
        response = response_of(answer, clean, store)
        if sample.unreadable is not None:
            score = Score(None, why=f"the sample could not be read: {sample.unreadable}")
            totals.marks[UNREADABLE] += 1
        elif response is None:
            score = Score(None, why=answer.error if answer is not None else "no answer yet")
        else:
            try:
                if verdicts is not None:
                    score = verdicts.score(place, sample, response)
                else:
                    score = scorer.score(sample, response)
            except ImageError as error:
                for image in response.images:
                    images.read(image)  # one that was damaged on the disk is told, and made again
                score = Score(None, why=f"an image cannot be used: {error.what}")
        totals.add(sample, score, place.trial)
        if answer is not None:
            totals.note(answer)
        if questions.sampled and response is not None:
            totals.marks[DRAWN] += 1
        yield SampleScore(
            id=sample.id,
            trial=place.trial,
            take=place.take,
            value=score.value,
            prediction=score.prediction,
            cluster=sample.cluster or sample.id,
            groups=dict(sample.groups),
            details=dict(score.details),
            why=score.why,
            unjudged=score.unjudged,
            hidden=score.hidden,
        )


def _in_order(questions: Questions) -> Iterator[Place]:
    """Trial by trial and take by take, as scores.jsonl has them."""
    for trial in range(questions.trials):
        for take in range(questions.takes):
            for position in questions.positions:
                yield Place(position, trial, take)


def _answered(questions: Questions, store: RunStore) -> Iterator[tuple[Sample, Response]]:
    """Every sample with a response that is no error."""
    for place in _in_order(questions):
        answer = store.stored(questions.slot(place))
        response = response_of(answer, questions.task.clean, store)
        if response is not None and place.position not in questions.samples.unreadable:
            yield questions.query(place.position), response


def response_of(
    answer: Answer | None, clean: Callable[[str], str], store: RunStore
) -> Response | None:
    """A stored response, its text cleaned up; None where there is none yet, or only an error."""
    if answer is None or answer.error is not None:
        return None
    return store.response(answer, clean)


def _about(record: Record, questions: Questions, store: RunStore, totals: _Totals) -> Row:
    """A row that says all about a run but its numbers."""
    samples = len(questions.samples)
    given = record.imported
    official = questions.task.spec.data.expected.get(questions.task.split)
    other = official is not None and official.samples != samples
    return Row(
        run=store.folder.name,
        task=record.task.name,
        version=record.identity.task.version,
        model=record.shown,
        shots=record.shots,
        ablation=record.ablation,
        protocol=record.task.protocol,
        split=record.task.split,
        metric="",
        value=None,
        stderr=None,
        n=0,
        unscored=0,
        server=questions.task.submitted,
        covered=len(questions.positions),
        queries=samples,
        seconds=round(totals.seconds, 3),
        seed=record.seed,
        trials=questions.trials,
        shortened=totals.shortened,
        missing=questions.left_out,
        missing_examples=len(record.left_out.demonstrations),
        marks=tuple(
            sorted(totals.marks.items(), key=lambda item: (item[0].kind, str(item[0].value)))
        ),
        changes=tuple(record.changes.assignments()),
        sources=record.identity.data.sources,
        size=Published(samples, official.samples) if official is not None and other else None,
        imported=given.label if given is not None else None,
        source=AnswerSource(given.origin, given.told, given.shots) if given is not None else None,
    )


def _rows(
    about: Row, totals: _Totals, group: str | None, total: _Total, judge: str | None
) -> Iterator[Row]:
    scorer, encoders = totals.scorer, totals.scorer.encoders()
    for summary, found in total.estimates():
        undefined = summary.accumulator.undefined() if found.value is None else None
        if judge is None and summary.judged and isinstance(scorer, JudgedScorer):
            continue  # nobody was asked
        unjudged = total.unjudged if summary.judged else 0
        yield msgspec.structs.replace(
            about,
            metric=summary.metric,
            variant=summary.variant,
            judge=judge if summary.judged else None,
            encoder=encoders.get((summary.metric, summary.variant)),
            group=group,
            value=found.value,
            stderr=found.error,
            low=found.low,
            high=found.high,
            spread=found.spread,
            n=total.n - unjudged,
            unscored=total.unscored + unjudged,
            hidden=total.hidden,
            higher_is_better=summary.higher_is_better,
            set_scaled=summary.set_scaled,
            digits=summary.digits,
            notes=(f"{summary.metric} is undefined: {undefined}",) if undefined else (),
        )


def _headline(row: Row, questions: Questions, record: Record, scorer: Scorer) -> Row:
    """The first row of the whole, with what is said once a run."""
    row = msgspec.structs.replace(row, notes=(*row.notes, *scorer.notes()))
    bounds = questions.task.spec.bounds.get(questions.task.split)
    # What text-only demonstrations can tell is another matter, and so is what ablated ones can.
    if bounds is None or record.shots.text_only:
        return row
    chance, ceiling = bounds.at(record.shots.count)
    reachable = ceiling if record.ablation in ("none", "order") else None
    return msgspec.structs.replace(row, chance=chance, ceiling=reachable)
