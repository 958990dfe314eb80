"""`--dry-run`: what a run would do, without doing it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from emu2eval.adapters.base import of_adapter
from emu2eval.engine.cost import costs, peek
from emu2eval.engine.plan import Plan
from emu2eval.engine.planned import PlannedRun
from emu2eval.errors import ImageError
from emu2eval.watch import Watcher


def preview(
    groups: Sequence[Sequence[PlannedRun]], watcher: Watcher | None = None
) -> RenderableType:
    """One line a run: how many requests, how many are answered already, what they hold; then the costs.

    Checks every request against the model's limits. Raises UserError.
    """
    table = Table(title="dry run: no requests are sent", title_justify="left")
    for name in ("task", "model", "shots"):
        table.add_column(name)
    for name in ("requests", "answered", "to run", "images each", "longest", "shortened"):
        table.add_column(name, justify="right")
    table.add_column("run", no_wrap=True)
    watcher = watcher or Watcher()
    runs = [run for group in groups for run in group]
    for run in runs:
        run.plan.prepare(progress=watcher.working)
        table.add_row(*_line(run))
    said = dict.fromkeys(line for group in groups for line in _about(group[0].plan))
    said |= dict.fromkeys(line for run in runs for line in run.plan.warnings())
    return Group(table, *map(Text, said), *(Text(each.line) for each in costs(groups)))


def _about(plan: Plan) -> Iterator[str]:
    with of_adapter(plan.adapter):
        for topic, text in plan.adapter.about().items():
            yield f"{plan.name}, {topic}: {text}"


def _line(run: PlannedRun) -> list[str]:
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
    images = f"{most}" if fewest == most else f"{fewest} to {most}"
    return [
        plan.task.name,
        plan.name,
        plan.setting,
        f"{len(plan):,}",
        f"{answered:,}",
        f"{len(plan) - answered:,}",
        images,
        f"{longest:,} tokens" if longest else "–",
        f"{shortened:,}" if plan.fit else "–",
        plan.folder,
    ]
