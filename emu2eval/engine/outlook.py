"""What runs take, as far as stored answers tell: requests, those that are answered, seconds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from emu2eval.engine.planned import PlannedRun
from emu2eval.errors import StoreError
from emu2eval.runs import locate
from emu2eval.runs.answers import Answer
from emu2eval.runs.scored import Key
from emu2eval.runs.scores import read_rows
from emu2eval.runs.store import RunStore
from emu2eval.types import Shots


@dataclass(frozen=True)
class RunEstimate:
    """What a run takes. seconds: a request, as the mean of `timed` stored ones; None where none is."""

    task: str
    split: str
    shots: Shots
    requests: int
    answered: int
    timed: int
    seconds: float | None

    @property
    def left(self) -> float | None:
        """Seconds still to go."""
        to_ask = self.requests - self.answered
        return 0.0 if not to_ask else None if self.seconds is None else self.seconds * to_ask


def run_estimate(run: PlannedRun) -> RunEstimate:
    """By the run's own stored answers."""
    plan = run.plan
    found: dict[Key, Answer] = {}
    for answer in RunStore(run.folder).answers():
        if answer.error is None:
            found[answer.id, answer.trial, answer.take] = answer
    seconds = sum(answer.seconds for answer in found.values())
    return RunEstimate(
        plan.task.name,
        plan.task.split,
        plan.prompts.shots,
        len(plan),
        min(len(found), len(plan)),
        len(found),
        seconds / len(found) if found else None,
    )


def estimates(groups: Iterable[Sequence[PlannedRun]]) -> list[RunEstimate]:
    """Of every run; one that nothing is stored of is taken to be as fast as the scored runs of its model."""
    found = []
    for group in groups:
        speed = _speed(group[0].plan.name, {run.options.folder for run in group})
        for run in group:
            own = run_estimate(run)
            found.append(own if own.timed else replace(own, seconds=speed))
    return found


def _speed(model: str, roots: Iterable[Path]) -> float | None:
    """Seconds a request over the scored runs of a model; None where there is none."""
    seconds, answers = 0.0, 0
    for folder in (folder for root in roots for folder in locate.folders(root)):
        with suppress(StoreError):
            for row in read_rows(folder)[:1]:
                if row.model == model and row.imported is None:
                    seconds, answers = seconds + row.seconds, answers + row.n
    return seconds / answers if answers else None
