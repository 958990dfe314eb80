"""Which part of a model would go to which device, on paper: no weights and no GPU are needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from emu2eval.adapters.base import Adapter
from emu2eval.adapters.machine import Machine
from emu2eval.adapters.memory import GIB, Device, DeviceUse, MemoryPlan, ReplicaFit, Workload
from emu2eval.engine.models import OpenModel, open_model
from emu2eval.errors import DoesNotFit, MissingExtra
from emu2eval.spec.changes import Changes


def show_plan(
    model: str,
    changes: Changes,
    workload: Workload,
    memory: Mapping[Device, int] | None = None,
    engine: str | None = None,
) -> RenderableType:
    """Replicas, their batch, and a table of the devices of one; a sentence for what needs no device here.

    memory: bytes by device; None = this machine's. engine: the serving engine that runs it, if any. Raises
    DoesNotFit, with what would.
    """
    opened = open_model(model, changes, engine=engine)
    if memory is None:
        here = Machine.here()
        memory = dict(enumerate(here.gpus)) or {"cpu": here.host}
    try:
        plan, fit = _planned(opened.adapter, workload, memory)
    except ModuleNotFoundError as error:
        raise MissingExtra(
            error.name or "torch", opened.adapter.extra or "", why="planning"
        ) from None
    except DoesNotFit as error:
        raise _with_fewer_shots(error, opened.adapter, workload, memory) from None
    if plan is None:
        return Text(_no_plan(opened))
    gpus = sum(isinstance(device, int) for device in memory)
    return Group(*_told(opened.spec.name, plan, fit, workload, gpus))


def _planned(
    adapter: Adapter, workload: Workload, memory: Mapping[Device, int]
) -> tuple[MemoryPlan | None, ReplicaFit | None]:
    """Of replicas where there are only GPUs; otherwise of one process that takes all of the memory."""
    gpus = [size for device, size in memory.items() if isinstance(device, int)]
    if len(gpus) < len(memory):
        return adapter.plan_memory(workload, memory), None
    adapter.workload = workload
    fit = adapter.fit_replicas(gpus)
    return (None if fit is None else fit.memory), fit


def _with_fewer_shots(
    error: DoesNotFit, adapter: Adapter, workload: Workload, memory: Mapping[Device, int]
) -> DoesNotFit:
    """The refusal, with how many demonstrations would do, if any number does."""
    shots = workload.shots
    while shots:
        shots //= 2
        try:
            _planned(adapter, replace(workload, shots=shots), memory)
        except DoesNotFit:
            continue
        error.hint = f"use {shots} shots; {error.hint}"
        break
    return error


def _no_plan(opened: OpenModel) -> str:
    """Why there is nothing to place."""
    name, adapter = opened.spec.name, opened.adapter
    if adapter.runs_on is not None:
        return f"{name} is answered by {adapter.runs_on}; memory and batches are planned there"
    if adapter.device_setting is None and type(adapter).load is Adapter.load:
        return f"{name} loads no weights: it runs anywhere and needs no device"
    return f"{name} does not say how much memory it needs (adapter {opened.spec.adapter!r})"


def _told(
    name: str, plan: MemoryPlan, fit: ReplicaFit | None, workload: Workload, gpus: int
) -> list[RenderableType]:
    parts: list[RenderableType] = [Text(_summary(name, plan, workload))]
    if fit is not None:
        parts.append(Text(_replicas(fit, workload, gpus), style="bold"))
    parts.append(_table(plan))
    if plan.most is not None and (plan.positions or 0) > plan.most:
        parts.append(
            Text(
                f"{plan.positions:,} positions exceed the {plan.most:,} that the model was trained for",
                style="yellow",
            )
        )
    note = "GiB; activations are an upper estimate"
    if plan.offloaded:
        names = " and ".join(map(str, plan.offloaded))
        note += f"; layers on {names} are copied for every pass, which is slow"
    parts.append(Text(note, style="dim"))
    return parts


def _summary(name: str, plan: MemoryPlan, workload: Workload) -> str:
    said = [name, plan.precision]
    if plan.positions is not None:
        if workload.positions is None:
            image = (
                "" if plan.image is None else f"{workload.images} × {plan.image} for images and "
            )
            each = f" ({image}{workload.text_tokens} for text, each)"
            said += [f"{workload.shots} shots", f"{plan.positions:,} positions{each}"]
        else:
            said.append(f"{plan.positions:,} positions")
    said.append(f"batch {plan.batch}")
    if plan.positions is not None:
        said.append("1 beam" if plan.beams == 1 else f"{plan.beams} beams")
    return " · ".join(said)


def _replicas(fit: ReplicaFit, workload: Workload, gpus: int) -> str:
    many = "1 replica" if fit.replicas == 1 else f"{fit.replicas} replicas"
    each = "1 GPU" if fit.gpus == 1 else f"{fit.gpus} GPUs"
    text = f"{many} of {each}"
    if workload.batch is None:
        text += f", with batches of {fit.batch}"
    if spare := gpus - fit.replicas * fit.gpus:
        text += f"; {spare} of {gpus} GPUs left over"
    return text


def _table(plan: MemoryPlan) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("device", no_wrap=True)
    for name in ("weights", "KV cache", "activations", "reserve", "total", "of"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("blocks")
    for use in plan.devices:
        table.add_row(*_row(use))
    return table


def _row(use: DeviceUse) -> list[str]:
    name = f"GPU {use.device}" if isinstance(use.device, int) else str(use.device)
    sizes = (use.weights, use.cache, use.activations, use.reserve, use.total)
    shown = [f"{size / GIB:,.1f}" for size in sizes]
    budget = "no limit" if use.budget is None else f"{use.budget / GIB:,.1f}"
    return [name, *shown, budget, ", ".join(use.parts) or "nothing"]
