"""A run that is planned and not yet asked, with what it is asked under."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from emu2eval.engine.judging import Judge
from emu2eval.engine.options import RunOptions
from emu2eval.engine.plan import Plan
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
