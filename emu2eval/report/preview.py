"""`--dry-run`: what a run would do, without doing it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.text import Text

from emu2eval.adapters.base import of_adapter
from emu2eval.engine.cost import costs, peek
from emu2eval.engine.plan import Plan
from emu2eval.engine.planned import PlannedRun
from emu2eval.errors import ImageError
from emu2eval.report.formats import Column, needed, rich_table
from emu2eval.watch import Watcher


def preview(
    groups: Sequence[Sequence[PlannedRun]], watcher: Watcher | None = None
) -> RenderableType:
    """One line a run: how many requests, how many are answered already, what they hold; then the costs.

    Checks every request against the model's limits. Raises UserError.
    """
    watcher = watcher or Watcher()
    runs = [run for group in groups for run in group]
    lines = []
    for run in runs:
        run.plan.prepare(progress=watcher.working)
        lines.append(_line(run))
    said = dict.fromkeys(line for group in groups for line in _about(group[0].plan))
    said |= dict.fromkeys(line for run in runs for line in run.plan.warnings())
    return Group(_table(lines), *map(Text, said), *(Text(each.line) for each in costs(groups)))


def _about(plan: Plan) -> Iterator[str]:
    with of_adapter(plan.adapter):
        for topic, text in plan.adapter.about().items():
            yield f"{plan.name}, {topic}: {text}"


@dataclass(frozen=True)
class _Line:
    """What a run would ask. images: the fewest and the most of a prompt; longest: in tokens, 0 = unknown."""

    run: PlannedRun
    answered: int
    images: tuple[int, int]
    longest: int
    shortened: int

    @property
    def pending(self) -> int:
        return len(self.run.plan) - self.answered


COLUMNS: Sequence[Column[_Line]] = (
    Column("task", lambda line: line.run.plan.task.name, shared=True),
    Column("model", lambda line: line.run.plan.name, heading=True),
    Column("shots", lambda line: line.run.plan.setting, number=True),
    Column("requests", lambda line: f"{len(line.run.plan):,}", number=True),
    Column("answered", lambda line: f"{line.answered:,}", number=True, least=2),
    Column("to run", lambda line: f"{line.pending:,}", number=True),
    Column("images each", lambda line: _between(line.images), number=True),
    Column(
        "longest",
        lambda line: f"{line.longest:,} tokens" if line.longest else "–",
        number=True,
        empty="–",
    ),
    Column(
        "shortened",
        lambda line: f"{line.shortened:,}" if line.run.plan.fit else "–",
        number=True,
        empty="–",
    ),
    Column("run", lambda line: line.run.plan.folder, least=3),
)


def _table(lines: Sequence[_Line]) -> RenderableType:
    return rich_table(needed(COLUMNS, lines), lines, title="dry run: no requests are sent", lift=1)


def _between(ends: tuple[int, int]) -> str:
    """
    >>> _between((2, 2)), _between((1, 5))
    ('2', '1 to 5')
    """
    fewest, most = ends
    return f"{most}" if fewest == most else f"{fewest} to {most}"


def _line(run: PlannedRun) -> _Line:
    plan = run.plan
    answered = most = longest = shortened = 0
    fewest = 1 << 30
    with peek(run) as store:
        for planned in plan:
            needed = 0
            # An image that the model cannot take costs its own sample, in the run too.
            with suppress(ImageError):
                plan.check(planned)
                needed = plan.adapter.positions(planned.request) or 0
            answered += store.has(planned.slot, planned.request.key)
            count = sum(1 for _ in planned.request.prompt.images())
            fewest, most = min(fewest, count), max(most, count)
            longest = max(longest, needed)
            shortened += planned.left_out > 0
    return _Line(run, answered, (fewest, most), longest, shortened)
