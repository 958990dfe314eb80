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
    """Writes the picture; bars are 95 % intervals (1.96 standard errors).

    Text-only demonstrations (0*) are no number of shots and are left out. Raises ConfigError where
    nothing can be drawn, MissingExtra without matplotlib, StoreError where the file cannot be written.
    """
    if file.suffix not in FORMATS:
        raise ConfigError(
            f"curves are written as {', '.join(FORMATS)}, not {file.suffix or 'that'}", where=file
        )
    drawn = [row for row in order(rows) if row.value is not None and row.shots.isdecimal()]
    if not drawn:
        raise ConfigError("there is no scored run to draw", hint="emu2eval ls runs")
    try:
        import matplotlib
    except ImportError:
        raise MissingExtra("matplotlib", "plots", why="drawing curves") from None
    # Text as text, so that an SVG can be read and searched; its ids the same for the same picture.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "emu2eval"})
    from matplotlib.figure import Figure

    panels = list(dict.fromkeys(_panel(row) for row in drawn))
    models = list(dict.fromkeys(row.model for row in drawn))
    across = min(3, len(panels))
    down = -(-len(panels) // across)
    figure = Figure(figsize=(4.2 * across, 3.2 * down), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False).ravel()
    for panel, axis in zip(panels, axes, strict=False):
        _panel_of(axis, panel, [row for row in drawn if _panel(row) == panel], models)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    handles, labels = axes[0].get_legend_handles_labels()
    for axis in axes[1 : len(panels)]:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            if label not in labels:
                handles.append(handle)
                labels.append(label)
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, dpi=150, metadata={"Date": None} if file.suffix == ".svg" else None)
    except OSError as error:
        raise StoreError(f"the picture cannot be written ({error.strerror})", where=file) from None


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
        axis.errorbar(
            [int(row.shots) for row in own],
            [row.value for row in own],
            yerr=[1.96 * (row.stderr or 0.0) for row in own],
            label=model,
            marker="o",
            markersize=4,
            capsize=2,
            color=COLOURS[number % len(COLOURS)],
            linestyle=("-", "--", ":")[number // len(COLOURS) % 3],
        )
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
