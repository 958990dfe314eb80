"""Which part of a model would go to which device, on paper: no weights and no GPU are needed."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from emu2eval.adapters.memory import DeviceUse, MemoryPlan, Workload, gib
from emu2eval.engine.models import open_model
from emu2eval.errors import ConfigError, MissingExtra
from emu2eval.spec.changes import Changes


def show_plan(model: str, changes: Changes, workload: Workload) -> RenderableType:
    """A table of devices for a model and the prompts of a workload.

    Raises ModelError, with what would fit, where it does not, and ConfigError for an adapter that plans none.
    """
    opened = open_model(model, changes)
    spec, adapter = opened.spec, opened.adapter
    try:
        plan = adapter.plan_memory(workload)
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "torch", adapter.extra or "", why="planning") from None
    if plan is None:
        raise ConfigError(
            f"memory planning is not available for {spec.name} (adapter {spec.adapter!r})",
            hint="only emu2 models can be planned; others run on a server, are small, or place themselves",
        )
    summary = (
        f"{spec.name} · {plan.precision} · {workload.shots} shots · {plan.positions:,} positions "
        f"({workload.images} × {plan.image} for images and {workload.text_tokens} for text, each) "
        f"· batch {plan.batch} · {plan.beams} beams"
    )
    parts: list[RenderableType] = [Text(summary), _table(plan)]
    if plan.most is not None and plan.positions > plan.most:
        parts.append(
            Text(
                f"{plan.positions:,} positions exceed the {plan.most:,} that the model was trained for",
                style="yellow",
            )
        )
    note = "weights, keys and values are exact; activations are an upper estimate"
    if plan.offloaded:
        names = " and ".join(map(str, plan.offloaded))
        note += f"; layers on {names} are copied for every pass, which is slow"
    parts.append(Text(note, style="dim"))
    return Group(*parts)


def _table(plan: MemoryPlan) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("device")
    table.add_column("blocks")
    for name in ("weights", "keys/values", "activations", "reserve", "total", "of"):
        table.add_column(name, justify="right", no_wrap=True)
    for use in plan.devices:
        table.add_row(*_row(use))
    return table


def _row(use: DeviceUse) -> list[str]:
    name = f"GPU {use.device}" if isinstance(use.device, int) else str(use.device)
    sizes = (use.weights, use.cache, use.activations, use.reserve, use.total)
    budget = "no limit" if use.budget is None else gib(use.budget)
    return [name, ", ".join(use.parts) or "nothing", *map(gib, sizes), budget]
