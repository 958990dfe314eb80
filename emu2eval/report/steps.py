"""Checkpoints of one training run in their order: a table, and an image over steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emu2eval.compare.comparison import Difference
from emu2eval.report import curves, formats
from emu2eval.report.compared import chance
from emu2eval.report.formats import Column, ends, number
from emu2eval.types import Row

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, slots=True)
class Step:
    """One checkpoint's row, and how it differs from the one before; the first has none before it."""

    number: int
    row: Row
    change: Difference | None = None


def _change(step: Step) -> str:
    found = step.change.difference if step.change else None
    return "–" if found is None else f"{found:+.{step.row.digits}f}"


def _reach(step: Step) -> str:
    return ends(step.change.low, step.change.high, step.row.digits) if step.change else "–"


COLUMNS: tuple[Column[Step], ...] = (
    Column("task", lambda s: s.row.task, shared=True),
    Column("protocol", lambda s: s.row.protocol, shared=True),
    Column("split", lambda s: s.row.split, shared=True),
    Column("shots", lambda s: s.row.shots, number=True, shared=True),
    Column("metric", lambda s: s.row.metric, shared=True),
    Column("step", lambda s: str(s.number), number=True),
    Column("checkpoint", lambda s: s.row.model),
    Column("value", lambda s: number(s.row.value, s.row.digits), number=True),
    Column("± s.e.", lambda s: number(s.row.stderr, s.row.digits), number=True),
    Column("95 %", lambda s: ends(s.row.low, s.row.high, s.row.digits), number=True),
    Column("change", _change, number=True),
    Column("95 % of change", _reach, number=True),
    Column("p", lambda s: chance(s.change.p if s.change else None), number=True),
    Column(
        "p (Holm)", lambda s: chance(s.change.holm if s.change else None), number=True, empty="–"
    ),
    Column("n", lambda s: f"{s.row.n:,}", number=True),
    Column("unscored", lambda s: f"{s.row.unscored:,}", number=True, empty="0", warns=True),
    Column("notes", lambda s: "; ".join(s.change.notes if s.change else ()), empty="", warns=True),
)


@dataclass(frozen=True, slots=True)
class _Flat:
    """A step as programs read it."""

    step: int
    task: str
    protocol: str
    split: str
    shots: str
    metric: str
    checkpoint: str
    value: float | None
    stderr: float | None
    low: float | None
    high: float | None
    n: int
    unscored: int
    change: float | None
    change_low: float | None
    change_high: float | None
    p: float | None
    holm: float | None
    notes: tuple[str, ...]
    run: str | None


def _flat(step: Step) -> _Flat:
    row, change = step.row, step.change
    return _Flat(
        step.number,
        row.task,
        row.protocol,
        row.split,
        row.shots,
        row.metric,
        row.model,
        row.value,
        row.stderr,
        row.low,
        row.high,
        row.n,
        row.unscored,
        change.difference if change else None,
        change.low if change else None,
        change.high if change else None,
        change.p if change else None,
        change.holm if change else None,
        change.notes if change else (),
        row.run,
    )


def _kind(step: Step) -> tuple[str, ...]:
    row = step.row
    return row.task, row.split, row.protocol, row.shots, row.metric


def steps_table(steps: Sequence[Step]) -> RenderableType:
    return formats.rich_table(formats.needed(COLUMNS, steps), steps, section=_kind, lift=1)


def render(steps: Sequence[Step], form: str) -> str:
    """As text. Raises UnknownName for a format that does not exist."""
    columns, flat = formats.needed(COLUMNS, steps), [_flat(step) for step in steps]
    forms = {
        "csv": lambda: formats.csv_text(_Flat, flat),
        "json": lambda: formats.json_text(flat),
        "latex": lambda: formats.latex(columns, steps),
        "markdown": lambda: formats.markdown(columns, steps),
    }
    return formats.chosen(forms, form)


def draw(steps: Sequence[Step], file: Path) -> None:
    """Writes the image: value over steps with 95 % intervals, one panel a task, one line a number of shots.

    Raises as `curves.draw`.
    """
    curves.check(file, [step.row for step in steps])
    panels: dict[tuple[str, ...], list[Step]] = {}
    for step in steps:
        panels.setdefault((*_kind(step)[:3], step.row.metric), []).append(step)
    figure, axes = curves.canvas(len(panels))
    for axis, (panel, own) in zip(axes, panels.items(), strict=False):
        _panel(axis, panel, own)
    curves.finish(figure, axes[: len(panels)], file)


def _panel(axis: Any, panel: tuple[str, ...], steps: Sequence[Step]) -> None:
    task, split, protocol, metric = panel
    for place, shots in enumerate(dict.fromkeys(step.row.shots for step in steps)):
        own = [s for s in steps if s.row.shots == shots and s.row.value is not None]
        curves.line(axis, [s.number for s in own], [s.row for s in own], f"{shots} shots", place)
    names = {step.number: step.row.model for step in steps}
    axis.set_xticks(sorted(names), [names[n] for n in sorted(names)], rotation=30, ha="right")
    axis.set_title(f"{task} ({split}, {protocol})", fontsize=10)
    axis.set_ylabel(metric)
    axis.grid(alpha=0.3)
