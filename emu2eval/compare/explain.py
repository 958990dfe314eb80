"""Why a number is not the paper's: a run's stored replies under every named rule and clean-up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from emu2eval.engine.reopen import Reopened, reopen
from emu2eval.engine.rules import Rescored, tried, ways
from emu2eval.errors import CompareError, UnknownName
from emu2eval.papers.published import Paper, PaperColumn, PaperTable
from emu2eval.papers.rebuild import MeasuredRun, measured_run, reasons
from emu2eval.runs.scores import SampleScore
from emu2eval.types import Row
from emu2eval.watch import Watcher

Key = tuple[str, int, int]

_LONGEST = 200
"""Characters of a reply that are shown."""


@dataclass(frozen=True, slots=True)
class Flipped:
    """A reply whose score another way changes. was, became: what was compared, with its score."""

    id: str
    trial: int
    take: int
    reply: str
    references: tuple[str, ...]
    was: str | None
    was_value: float | None
    became: str | None
    became_value: float | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """A run under one way to score it.

    rule, clean: the way; own: it is the run's own. difference: to the run's own number, where both are of one
    metric; changed: replies whose score differs; examples: a few of them. why: it does not fit the replies.
    published: the number that it stands against, off: this one less that. nearest: of all that fit.
    """

    run: str
    task: str
    model: str
    shots: str
    rule: str
    clean: tuple[str, ...]
    metric: str
    own: bool
    value: float | None
    low: float | None
    high: float | None
    difference: float | None
    changed: int | None
    n: int
    unscored: int
    digits: int
    why: str | None = None
    published: float | None = None
    off: float | None = None
    nearest: bool = False
    settings: tuple[str, ...] = ()
    examples: tuple[Flipped, ...] = ()


@dataclass(frozen=True, slots=True)
class Against:
    """A published number. differs: what sets the run apart from it whatever the rule."""

    paper: str
    table: str
    column: str
    model: str
    shots: str
    value: float
    digits: int
    differs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Explained:
    """All ways, the run's own first, then by how little they change; against: what they stand beside."""

    ways: tuple[Explanation, ...]
    against: Against | None = None

    @property
    def nearest(self) -> Explanation | None:
        return next((way for way in self.ways if way.nearest), None)


@dataclass(frozen=True)
class Cell:
    """A published number before the run is looked at. column: of the run's task."""

    paper: Paper
    table: PaperTable
    column: PaperColumn
    model: str
    shots: str
    value: float


def cell(paper: Paper, table: str | None, model: str, row: Row) -> Cell:
    """The number of a published model for a run's task and shots. Raises UnknownName or CompareError."""
    tables = [paper.table(table)] if table is not None else list(paper.spec.tables)
    shots: list[str] = []
    names = {
        name for each in tables for line in each.rows for name in (line.model, line.checkpoint)
    }
    if model not in names:
        raise UnknownName(
            "model",
            model,
            sorted(filter(None, names)),
            hint="name the published model with --against",
            of=paper.name,
        )
    for each in tables:
        published = [line for line in each.rows if model in (line.model, line.checkpoint)]
        for place, column in enumerate(each.columns):
            if column.task != row.task:
                continue
            for line in published:
                value = line.values[place]
                if value is None:
                    continue
                shots.append(each.shots_of(line))
                if shots[-1] == str(row.shots):
                    return Cell(paper, each, column, line.model, shots[-1], value)
    has = f"it has {row.task} at {', '.join(dict.fromkeys(shots))} shots" if shots else None
    raise CompareError(
        f"{paper.name} has no number for {model} on {row.task} at {row.shots} shots",
        where="--against",
        hint=has or "emu2eval table --paper NAME shows its tables",
    )


def explain(
    folder: Path,
    *,
    paper: Paper | None = None,
    table: str | None = None,
    against: str | None = None,
    examples: int = 3,
    watcher: Watcher | None = None,
) -> Explained:
    """A stored run under every way that fits it, without its model; nothing is asked or written.

    against: the published model of `paper` (and its `table`) to stand beside; absent, the run's own model's.
    examples: how many of the changed replies are shown of each way. Raises UserError.
    """
    told = watcher or Watcher()
    run = reopen(folder)
    run.index()
    with run.store:
        if next(run.store.answers(), None) is None:
            raise CompareError(
                "this run has no stored replies to rescore",
                where=folder,
                hint="reference runs store scores only; explain a run of your own",
            )
        first, *others = ways(run)
        own = tried(run, first, told.working)
        if own.headline is None:
            raise CompareError(
                f"the replies of this run cannot be rescored: {own.why or 'there are none'}",
                where=folder,
            )
        base = {score.key: score for score in own.scores}
        made = [_explanation(run, own, own, base, examples)]
        for way in others:
            made.append(_explanation(run, tried(run, way, told.working), own, base, examples))
    made[1:] = sorted(made[1:], key=_order)
    if paper is None:
        return Explained(tuple(made))
    found = cell(paper, table, against or run.record.model.name, own.headline)
    return _beside(folder, made, own, found)


def _explanation(
    run: Reopened, made: Rescored, own: Rescored, base: Mapping[Key, SampleScore], examples: int
) -> Explanation:
    head = own.headline
    assert head is not None
    row = made.headline
    alike = row is not None and (row.metric == head.metric or row.task != head.task)
    flips = [score for score in made.scores if _differs(base.get(score.key), score)]
    difference = None
    if row is not None and alike and row.value is not None and head.value is not None:
        difference = row.value - head.value
    return Explanation(
        run=head.run,
        task=head.task,
        model=head.model,
        shots=head.setting,
        rule=made.way.rule,
        clean=made.way.clean,
        metric=row.label if row is not None else "",
        own=made is own,
        value=row.value if row is not None else None,
        low=row.low if row is not None else None,
        high=row.high if row is not None else None,
        difference=difference,
        changed=len(flips) if row is not None else None,
        n=row.n if row is not None else 0,
        unscored=row.unscored if row is not None else 0,
        digits=head.digits,
        why=made.why,
        settings=made.way.assignments,
        examples=tuple(_flipped(run, base, flips[:examples])),
    )


def _differs(was: SampleScore | None, now: SampleScore) -> bool:
    return was is not None and was.value != now.value


def _flipped(
    run: Reopened, base: Mapping[Key, SampleScore], flips: Sequence[SampleScore]
) -> Iterator[Flipped]:
    questions = run.questions
    wanted = {score.key: score for score in flips}
    for place in questions:
        key = (questions.samples.ids[place.position], place.trial, place.take)
        now = wanted.get(key)
        if now is None:
            continue
        was = base[key]
        answer = run.store.stored(questions.slot(place))
        reply = (answer.text or "") if answer is not None else ""
        sample = questions.query(place.position)
        yield Flipped(
            *key,
            reply if len(reply) <= _LONGEST else f"{reply[:_LONGEST]}…",
            tuple(dict.fromkeys(r for r in sample.references if isinstance(r, str))),
            was.prediction,
            was.value,
            now.prediction,
            now.value,
        )


def _order(way: Explanation) -> tuple[bool, float, str, tuple[str, ...]]:
    return way.why is not None, -(way.value or 0.0), way.rule, way.clean


def _beside(folder: Path, made: list[Explanation], own: Rescored, found: Cell) -> Explained:
    head = own.headline
    assert head is not None
    beside = [
        replace(way, published=found.value, off=way.value - found.value)
        if way.value is not None and way.metric.partition("/")[0] == found.column.metric
        else way
        for way in made
    ]
    offs = [abs(way.off) for way in beside if way.off is not None]
    # Of several as near, the run's own first.
    at = next(
        (n for n, way in enumerate(beside) if way.off is not None and abs(way.off) == min(offs)),
        None,
    )
    if at is not None:
        beside[at] = replace(beside[at], nearest=True)
    return Explained(
        tuple(beside),
        Against(
            paper=found.paper.name,
            table=found.table.id,
            column=found.column.title,
            model=found.model,
            shots=found.shots,
            value=found.value,
            digits=found.table.digits,
            differs=_apart(folder, head, found.column, beside[at] if at is not None else None),
        ),
    )


def _apart(
    folder: Path, head: Row, column: PaperColumn, nearest: Explanation | None
) -> tuple[str, ...]:
    """What else sets the run apart: split, prompt, settings such as decoding, number of samples."""
    run = measured_run(folder, (head,))
    scoring = "task.score."
    kept = [change for change in run.changes if not change.startswith(scoring)]
    # The rule is what is looked for here, and not a setting by hand.
    kept += [change for change in column.set if change.startswith(scoring)]
    metric, _, variant = (nearest.metric if nearest is not None else head.label).partition("/")
    row = msgspec.structs.replace(head, metric=metric, variant=variant or None)
    found = [
        reason.text for reason in reasons(MeasuredRun(run.name, (row,), tuple(kept)), row, column)
    ]
    return tuple(found)
