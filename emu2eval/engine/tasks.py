"""A task, opened once: its parts found, their options checked, and handed on to all that use it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from emu2eval import registry
from emu2eval.data.samples import Samples
from emu2eval.data.sources import choose, require
from emu2eval.engine.supplies import NamedPart
from emu2eval.errors import ConfigError, PlanError, UserError, of_part, together
from emu2eval.fewshot.choosers import Chooser
from emu2eval.runs.record import Record
from emu2eval.scorers.base import AbsentScorer, Scorer
from emu2eval.scorers.judged import JudgedScorer
from emu2eval.spec import catalog
from emu2eval.spec.changes import Changes
from emu2eval.spec.task import ProtocolSpec, Task, TaskSpec, changed, load_task, task_root
from emu2eval.spec.yamlfile import Document, validate
from emu2eval.types import Shots


class ChooserFactory(Protocol):
    """Makes the task's chooser for a pool."""

    def __call__(self, pool: Samples, seed: int) -> Chooser: ...


@dataclass(frozen=True)
class OpenTask:
    """A task ready to be used. clean: the task's clean-up steps as one function."""

    task: Task
    scorer: Scorer
    clean: Callable[[str], str]
    chooser: ChooserFactory

    @property
    def name(self) -> str:
        return self.task.name

    @property
    def spec(self) -> TaskSpec:
        return self.task.spec

    @property
    def protocol_name(self) -> str:
        return self.task.protocol_name

    @property
    def protocol(self) -> ProtocolSpec:
        return self.task.protocol

    @property
    def split(self) -> str:
        return self.task.split

    @property
    def submitted(self) -> bool:
        """Whether a server knows the answers of the split, and takes a file of ours."""
        wanted = self.spec.submission
        return wanted is not None and self.split in wanted.able

    @property
    def document(self) -> Document:
        return self.task.document

    @property
    def choices(self) -> tuple[str, ...]:
        """The closed set of answers that the task fixes for all its queries; empty = each has its own."""
        return self.task.spec.output.choices

    @property
    def pool_split(self) -> str:
        """The split that demonstrations are drawn from."""
        return self.task.spec.demonstrations.split or self.task.split

    @property
    def scoring(self) -> NamedPart:
        """Its scorer, by the name that its file gives it."""
        return NamedPart("scorer", self.spec.score.scorer, self.scorer)

    @property
    def judged(self) -> JudgedScorer | None:
        """Its scorer, where that asks a judge, if one is named."""
        return self.scorer if isinstance(self.scorer, JudgedScorer) else None

    @property
    def needs_judge(self) -> bool:
        """It has no number without a judge."""
        return self.judged is not None and not self.judged.optional

    def shots(self, given: str | int | Shots) -> Shots:
        """`4`, or `0*` for the protocol's demonstrations without images.

        Raises ConfigError, also where the benchmark has nothing that could be shown.
        """
        parsed = _parse_shots(given, self.protocol.text_only)
        demonstrations = self.spec.demonstrations
        if parsed.count and demonstrations.refused and demonstrations.split is None:
            raise ConfigError(
                f"{self.name} has no demonstrations, so --shots {given} is not possible: "
                f"{demonstrations.refused}",
                where=self.document.where(("demonstrations",)),
                hint="use --shots 0; or --set task.demonstrations.split=SPLIT to draw them from "
                "the test data (never with the query's own image), which is not the benchmark's protocol",
            )
        return parsed


def _parse_shots(given: str | int | Shots, text_only: int) -> Shots:
    if isinstance(given, Shots):
        return given
    text = str(given)
    if text == "0*":
        return Shots(text_only, text_only=True)
    if text.isdecimal() and len(text) < 6:
        return Shots(int(text))
    raise ConfigError(
        f"--shots takes integers, or 0* for text-only demonstrations, not {text!r}",
        hint="for example: --shots 0 4 8 '0*'",
    )


def opened(task: Task, *, scorer_needed: bool = True) -> OpenTask:
    """The task with its parts. Raises ConfigError or UnknownName for one of them, Several for more.

    scorer_needed: without it, a scorer that cannot be had is told when something is to be scored.
    """
    made: dict[str, Any] = {}

    def make(name: str, part: Callable[[Task], Any]) -> None:
        made[name] = part(task)

    scorer = _scorer if scorer_needed else _scorer_or_none
    parts = {"scorer": scorer, "clean": _cleaner, "chooser": _chooser}
    together([partial(make, name, part) for name, part in parts.items()])
    return OpenTask(task, **made)


def open_task(
    name: str | Task,
    changes: Changes,
    *,
    shots: Sequence[str | int] = (),
    protocol: str | None = None,
    split: str | None = None,
    source: str | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> OpenTask:
    """The task by name or path, with the sources of the splits that it needs at these numbers of shots.

    Raises MissingData with all that must be fetched, ConfigError or UnknownName.
    """
    loaded = opened(described(name, changes, protocol=protocol, split=split))
    shown = any(loaded.shots(each).count for each in shots)
    splits = [loaded.split, loaded.pool_split if shown else loaded.split]
    task, notes = choose(loaded.task, splits, source)
    require(task, splits)
    for text in notes:
        note(text)
    return replace(loaded, task=task)


def described(
    name: str | Task, changes: Changes, *, protocol: str | None = None, split: str | None = None
) -> Task:
    """The task as its file and the changes describe it; nothing of its data is looked at."""
    if isinstance(name, Task):
        return name
    if not isinstance(name, str):
        raise ConfigError(
            f"a task must be a name, a path or a Task, not {type(name).__name__}",
            hint="for the names: emu2eval ls tasks; load_task reads a Task from a file",
        )
    return load_task(name, protocol=protocol, split=split, overrides=changes.task)


def recorded_task(record: Record, changes: Changes | None = None) -> Task:
    """The task that a run's record holds; its data is not read. changes: of `task.score` alone."""
    overrides = changes.task if changes is not None else {}
    for key in overrides:
        if not key.startswith("score."):
            raise ConfigError(
                f"--set task.{key} would change the prompts; only task.score.… can be changed here"
            )
    known = record.task
    own = frozenset(tuple(key.split(".")) for key in overrides)
    path = catalog.located("task", known.file)
    document = Document(path, known.spec, set_by=own, part="task", stored=True)
    spec = validate(TaskSpec, changed(known.spec, overrides), document)
    root = task_root(spec, document)
    return Task(spec, known.protocol, known.split, root, document, known.sources)


def scorer_of(record: Record) -> Scorer:
    """The scorer of a stored run."""
    return _scorer(recorded_task(record))


def unknown_prompts(origin: str, folder: Path | str) -> PlanError:
    """Of a run whose answers were given elsewhere."""
    return PlanError(
        f"the prompts of this run are unknown: its answers were imported from {origin}",
        where=folder,
        hint="score, table, compare, report and submit work; commands that need prompts or the model do "
        "not",
    )


def _scorer(task: Task) -> Scorer:
    spec = task.spec.score
    where = task.document.where(("score", "scorer"))
    at = task.document.below(("score", "options"))
    with task.document.naming(("score", "scorer")):
        scorer: Scorer = registry.build("scorer", spec.scorer, spec.options, where=where, at=at)
    kind = task.spec.output.kind
    if kind not in scorer.outputs:
        raise ConfigError(
            f"the scorer {spec.scorer!r} scores {' or '.join(sorted(scorer.outputs))}, "
            f"but the task asks for {kind}",
            where=where,
        )
    return scorer


def _scorer_or_none(task: Task) -> Scorer:
    try:
        return _scorer(task)
    except UserError as error:
        return AbsentScorer(error)


def _cleaner(task: Task) -> Callable[[str], str]:
    where = task.document.where(("score", "clean"))
    names = task.spec.score.clean
    with task.document.naming(("score", "clean")):
        steps = [(name, registry.find("cleaner", name, where=where)) for name in names]

    def clean(text: str) -> str:
        for name, step in steps:
            with of_part("cleaner", name):
                text = step(text)
        return text

    return clean


def _chooser(task: Task) -> ChooserFactory:
    spec = task.spec.demonstrations
    with task.document.naming():
        make = registry.prepared(
            "chooser",
            spec.chooser,
            spec.options,
            given=2,
            where=task.document.where(("demonstrations", "chooser")),
            at=task.document.below(("demonstrations", "options")),
        )

    def made(pool: Samples, seed: int) -> Chooser:
        # A chooser may name an encoder of its own.
        with task.document.naming():
            chooser: Chooser = make(pool, seed)
            return chooser

    return made
