"""Checkpoints of one training run in their order: a table, and an image over steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emu2eval.compare.comparable import Measure
from emu2eval.compare.comparison import Difference
from emu2eval.report import curves, formats, latex
from emu2eval.report.compared import chance
from emu2eval.report.formats import Column, ends, number
from emu2eval.runs.apart import TableRun
from emu2eval.runs.record import Record
from emu2eval.runs.scored import ScoredRun
from emu2eval.types import Row

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, slots=True)
class Step:
    """One checkpoint's row, and how it differs from the previous one; the first has none.

    track: which of several series of runs it belongs to, such as those of 0 and of 4 shots. training: whose
    step the number is, where it is more than a place in order.
    """

    number: int
    row: Row
    change: Difference | None = None
    track: int = 0
    training: str | None = None


def steps_of(tracks: Sequence[Sequence[tuple[ScoredRun, Difference | None]]]) -> list[Step]:
    """Those of `compare_series`, by their number in training where they all have one, else by their place."""
    runs = [run for track in tracks for run, _ in track]
    trained = all(run.record.model.training is not None for run in runs)
    return [
        _step(run.record if trained else None, run.rows[0], number, change, place)
        for place, track in enumerate(tracks)
        for number, (run, change) in enumerate(track, 1)
    ]


def trained(runs: Sequence[TableRun]) -> list[Step]:
    """Those of the runs that say their step in a training, of every number of shots in order."""
    tracks: dict[Any, dict[int, tuple[Record, Row]]] = {}
    for run in runs:
        training = run.record.model.training if run.record is not None else None
        if run.record is not None and training is not None and run.rows:
            row = run.rows[0]
            key = (Measure.of(row), training.series, row.shots.rank, row.ablation, row.seed)
            tracks.setdefault(key, {})[training.step] = run.record, row
    return [
        _step(record, row, step, None, place)
        for place, track in enumerate(tracks.values())
        for step, (record, row) in sorted(track.items())
    ]


def overtaken(steps: Sequence[Step]) -> set[str]:
    """The names of runs of steps that their training went beyond."""
    last: dict[str | None, int] = {}
    for step in steps:
        last[step.training] = max(step.number, last.get(step.training, 0))
    return {step.row.run for step in steps if step.number < last[step.training]}


def _step(
    record: Record | None, row: Row, number: int, change: Difference | None, track: int
) -> Step:
    training = record.model.training if record is not None else None
    if training is None:
        return Step(number, row, change, track)
    return Step(training.step, row, change, track, training.series)


def _change(step: Step) -> str:
    found = step.change.difference if step.change else None
    return "–" if found is None else f"{found:+.{step.row.digits}f}"


def _reach(step: Step) -> str:
    return ends(step.change.low, step.change.high, step.row.digits) if step.change else "–"


COLUMNS: tuple[Column[Step], ...] = (
    Column("task", lambda s: s.row.task, shared=True),
    Column("protocol", lambda s: s.row.protocol_label, shared=True),
    Column("split", lambda s: s.row.split, shared=True),
    Column("shots", lambda s: s.row.setting, number=True, shared=True),
    Column("metric", lambda s: s.row.label, shared=True),
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
    ablation: str
    seed: int
    metric: str
    variant: str | None
    judge: str | None
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
        row.protocol_label,
        row.split,
        str(row.shots),
        row.ablation,
        row.seed,
        row.metric,
        row.variant,
        row.judge,
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


def steps_table(steps: Sequence[Step]) -> RenderableType:
    return formats.rich_table(
        formats.needed(COLUMNS, steps), steps, section=lambda s: s.track, lift=1
    )


def render(steps: Sequence[Step], form: str) -> str:
    """As text. Raises UnknownName for a format that does not exist."""
    columns, flat = formats.needed(COLUMNS, steps), [_flat(step) for step in steps]
    forms = {
        "csv": lambda: formats.csv_text(_Flat, flat),
        "json": lambda: formats.json_items(flat),
        "latex": lambda: latex.table(columns, steps, label="series", section=lambda s: s.track),
        "markdown": lambda: formats.markdown(columns, steps),
    }
    return formats.chosen(forms, form)


def draw(steps: Sequence[Step], file: Path) -> None:
    """Writes the image: value over steps with 95 % intervals, one panel a task, one line a number of shots.

    Raises as `curves.draw`.
    """
    curves.check(file, [step.row for step in steps])
    curves.paint(panels(steps), file)


def panels(steps: Sequence[Step]) -> list[curves.Panel]:
    """One for each task."""
    tracks: dict[int, list[Step]] = {}
    for step in steps:
        tracks.setdefault(step.track, []).append(step)
    found: dict[Measure, list[list[Step]]] = {}
    for track in tracks.values():
        found.setdefault(Measure.of(track[0].row), []).append(track)
    return [partial(_panel, tracks=own) for own in found.values()]


def _panel(axis: Any, tracks: Sequence[Sequence[Step]]) -> None:
    seeds = len({track[0].row.seed for track in tracks}) > 1
    several = len({track[0].training for track in tracks}) > 1
    for place, track in enumerate(tracks):
        own = [step for step in track if step.row.value is not None]
        row = track[0].row
        label = f"{row.setting} shots" + (f", seed {row.seed}" if seeds else "")
        if several:
            label = f"{track[0].training}, {label}"
        curves.line(axis, [s.number for s in own], [s.row for s in own], label, place)
    if tracks[0][0].training is None:
        names = {step.number: step.row.model for track in tracks for step in track}
        axis.set_xticks(sorted(names), [names[n] for n in sorted(names)], rotation=30, ha="right")
    else:
        axis.set_xlabel("training step")
    row = tracks[0][0].row
    axis.set_title(curves.title(row), fontsize=10)
    axis.set_ylabel(row.label)
    axis.grid(alpha=0.3)
