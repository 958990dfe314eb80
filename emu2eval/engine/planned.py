"""A run that is planned and not yet asked, with what it is asked under."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from emu2eval.engine.judging import Judge
from emu2eval.engine.options import RunOptions
from emu2eval.engine.plan import Plan
from emu2eval.errors import ConfigError, UserError, raise_together
from emu2eval.fewshot.choosers import Chooser
from emu2eval.runs.names import below


@dataclass(frozen=True)
class PlannedRun:
    """judge: of its answers, where they need one."""

    plan: Plan
    options: RunOptions
    judge: Judge | None = None

    @property
    def folder(self) -> Path:
        """Where its answers are, or will be."""
        return below(self.options.folder, self.plan.folder)

    @property
    def named(self) -> bool:
        """Whether the folder's name is known already: what a chooser looks through may not be ready."""
        chooser = self.plan.prompts.chooser
        return chooser is None or type(chooser).prepare is Chooser.prepare


def each_once(
    groups: Sequence[Sequence[PlannedRun]], named: Callable[[PlannedRun], bool] = lambda run: True
) -> list[list[PlannedRun]]:
    """Named runs without repetitions. Raises UserError where one is asked for in two ways."""
    known: dict[Path, PlannedRun] = {}
    clashes: list[UserError] = []
    kept: list[list[PlannedRun]] = []
    for group in groups:
        kept.append([])
        for run in group:
            first = known.setdefault(run.folder, run) if named(run) else run
            if first is run:
                kept[-1].append(run)
            elif _asked(run) != _asked(first):
                clashes.append(_clash(run))
    raise_together(clashes)
    return kept


def _asked(run: PlannedRun) -> tuple[object, ...]:
    """What two plans of one run can differ in."""
    return run.plan.extent, run.options.changes, run.judge


def _clash(run: PlannedRun) -> UserError:
    plan = run.plan
    return ConfigError(
        f"{plan.task.name}, {plan.name}, {plan.setting} shots is requested twice, with different limits, "
        "trials, or settings that do not affect answers, such as scoring",
        where=run.folder,
        hint="both would be the same run: give one of them another --out, or compare scoring afterwards with "
        "emu2eval explain",
    )
