"""What a run would do, without doing it."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.table import Table

from emu2eval.engine.store import RunStore
from emu2eval.evaluation import Settings, Watcher, folder_name, plans, slots
from emu2eval.plan import Plan


def preview(
    tasks: Sequence[str], models: Sequence[str], settings: Settings, watcher: Watcher | None = None
) -> RenderableType:
    """One line a run: how many requests, how many are answered already, what they hold.

    Checks every request against the model's limits. Raises UserError.
    """
    table = Table(title="dry run: nothing is asked", title_justify="left")
    for name in ("task", "model", "shots"):
        table.add_column(name)
    for name in ("requests", "answered", "to ask", "pictures each", "longest"):
        table.add_column(name, justify="right")
    table.add_column("run", no_wrap=True)
    told = watcher or Watcher()
    for group in plans(tasks, models, settings, told):
        for plan in group:
            plan.prepare(progress=told.working)
            table.add_row(*_line(plan, settings))
    return table


def _line(plan: Plan, settings: Settings) -> list[str]:
    store = RunStore(settings.folder / folder_name(plan))
    store.index(slots(plan), len(plan.samples) * plan.draws)
    answered = most = longest = 0
    fewest = 1 << 30
    for planned in plan:
        plan.check(planned)
        answered += store.has(planned.slot, planned.request.key)
        count = sum(1 for _ in planned.request.prompt.pictures())
        fewest, most = min(fewest, count), max(most, count)
        longest = max(longest, plan.adapter.positions(planned.request) or 0)
    store.close()
    pictures = f"{most}" if fewest == most else f"{fewest} to {most}"
    return [
        plan.task.name,
        plan.model.name,
        plan.shots.label,
        f"{len(plan):,}",
        f"{answered:,}",
        f"{len(plan) - answered:,}",
        pictures,
        f"{longest:,} tokens" if longest else "–",
        folder_name(plan),
    ]
