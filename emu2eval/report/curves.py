"""Few-shot curves: value against number of demonstrations, one panel a task, one line a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emu2eval.errors import ConfigError, MissingExtra, StoreError
from emu2eval.report.table import order
from emu2eval.types import Row

FORMATS = (".png", ".svg", ".pdf")
# Okabe and Ito's colours, which people with any kind of colour vision tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def draw(rows: Sequence[Row], file: Path) -> None:
    """Writes the image; bars are 95 % intervals.

    Text-only demonstrations (0*) and ablated ones are no number of shots and are left out. Raises
    ConfigError where nothing can be drawn, MissingExtra without matplotlib, StoreError where the file
    cannot be written.
    """
    drawn = [row for row in order(rows) if row.value is not None and row.shots.isdecimal()]
    check(file, drawn)
    panels = list(dict.fromkeys(_panel(row) for row in drawn))
    models = list(dict.fromkeys(row.model for row in drawn))
    figure, axes = canvas(len(panels))
    for panel, axis in zip(panels, axes, strict=False):
        _panel_of(axis, panel, [row for row in drawn if _panel(row) == panel], models)
    finish(figure, axes[: len(panels)], file)


def check(file: Path, rows: Sequence[Row]) -> None:
    """Raises ConfigError for another ending, or where no row has a value."""
    if file.suffix not in FORMATS:
        raise ConfigError(
            f"curves are written as {', '.join(FORMATS)}, not {file.suffix or 'that'}", where=file
        )
    if not any(row.value is not None for row in rows):
        raise ConfigError("there is no scored run to draw", hint="emu2eval ls runs")


def canvas(panels: int) -> tuple[Any, Sequence[Any]]:
    """A figure and its axes, at least one a panel; those left over are empty."""
    try:
        import matplotlib
    except ImportError:
        raise MissingExtra("matplotlib", "plots", why="drawing curves") from None
    # Text as text, so that an SVG can be read and searched; its ids the same for the same image.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "emu2eval"})
    from matplotlib.figure import Figure

    across = min(3, panels)
    down = -(-panels // across)
    figure = Figure(figsize=(4.2 * across, 3.2 * down), layout="constrained")
    axes: list[Any] = list(figure.subplots(down, across, squeeze=False).ravel())
    for axis in axes[panels:]:
        axis.set_axis_off()
    return figure, axes


def finish(figure: Any, axes: Sequence[Any], file: Path) -> None:
    """One legend for all panels, then the file."""
    handles: list[Any] = []
    labels: list[str] = []
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            if label not in labels:
                handles.append(handle)
                labels.append(label)
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, dpi=150, metadata={"Date": None} if file.suffix == ".svg" else None)
    except OSError as error:
        raise StoreError(f"the image cannot be written ({error.strerror})", where=file) from None


def line(axis: Any, places: Sequence[int], rows: Sequence[Row], label: str, number: int) -> None:
    """One line with its 95 % intervals. number: which of the colours and dashes."""
    axis.errorbar(
        places,
        [row.value for row in rows],
        yerr=bars(rows),
        label=label,
        marker="o",
        markersize=4,
        capsize=2,
        color=COLOURS[number % len(COLOURS)],
        linestyle=("-", "--", ":")[number // len(COLOURS) % 3],
    )


def bars(rows: Sequence[Row]) -> list[list[float]]:
    """How far the intervals reach below and above the values."""
    below, above = [], []
    for row in rows:
        value, error = row.value or 0.0, 1.96 * (row.stderr or 0.0)
        # A report of an older version has no ends.
        below.append(max(0.0, value - row.low) if row.low is not None else error)
        above.append(max(0.0, row.high - value) if row.high is not None else error)
    return [below, above]


def _panel(row: Row) -> tuple[str, str, str, str]:
    return row.task, row.split, row.protocol, row.metric


def _panel_of(
    axis: Any, panel: tuple[str, str, str, str], rows: Sequence[Row], models: Sequence[str]
) -> None:
    task, split, protocol, metric = panel
    for number, model in enumerate(models):
        own = [row for row in rows if row.model == model]
        if not own:
            continue
        line(axis, [int(row.shots) for row in own], own, model, number)
    own = [row for row in rows if row.ceiling is not None or row.chance is not None]
    for name, values, style in (
        ("ceiling", {int(r.shots): r.ceiling for r in own if r.ceiling is not None}, "--"),
        ("chance", {int(r.shots): r.chance for r in own if r.chance is not None}, ":"),
    ):
        shots = sorted(values)
        if shots:
            axis.plot(shots, [values[k] for k in shots], style, color="0.5", lw=1, label=name)
    axis.set_title(f"{task} ({split}, {protocol})", fontsize=10)
    axis.set_xlabel("demonstrations")
    axis.set_ylabel(metric)
    axis.set_xticks(sorted({int(row.shots) for row in rows}))
    axis.set_ylim(bottom=min(0.0, *(row.value or 0.0 for row in rows)))
    axis.grid(alpha=0.3)
