"""What an experiment is about to do, in a sentence."""

from __future__ import annotations

from collections.abc import Sequence

from emu2eval.engine.outlook import RunEstimate
from emu2eval.report.notes import counted
from emu2eval.report.reproduced import duration


def outlook(estimates: Sequence[RunEstimate], models: int) -> str:
    """How many runs and requests, what is done already, and how long the rest takes as far as known."""
    requests = sum(each.requests for each in estimates)
    answered = sum(each.answered for each in estimates)
    tasks = len({each.task for each in estimates})
    said = (
        f"{counted(len(estimates), 'run')} ({counted(models, 'model')}, {counted(tasks, 'task')}), "
        f"{counted(requests, 'request')}"
    )
    if answered:
        said += f", {answered:,} already answered"
    known = [each.left for each in estimates if each.left is not None]
    unknown = len(estimates) - len(known)
    if unknown == len(estimates):
        return f"{said}; no time estimate before the first answer"
    left = sum(known)
    if answered < requests:
        said += f"; about {duration(left)} left, not counting model loading"
    if unknown:
        said += f", plus {counted(unknown, 'run')} not timed yet"
    return said
