"""Few-shot curves: value against number of demonstrations, one panel a task, one line a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from emu2eval.compare.comparable import Measure
from emu2eval.errors import ConfigError, MissingExtra, StoreError, printable
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
    check(file, [row for row in rows if is_on_curve(row)])
    paint(panels(rows), file)


Panel = Callable[[Any], None]
"""Draws on an axis of matplotlib."""


def panels(rows: Sequence[Row]) -> list[Panel]:
    """One for each task; none where no row can be drawn."""
    drawn = [row for row in order(rows) if row.value is not None and is_on_curve(row)]
    found: dict[Measure, list[Row]] = {}
    for row in drawn:
        found.setdefault(Measure.of(row), []).append(row)
    lines = list(dict.fromkeys(_Line.of(row) for row in drawn))
    return [partial(_panel, rows=own, lines=lines) for own in found.values()]


def paint(panels: Sequence[Panel], file: Path | None = None) -> Any:
    """The figure of matplotlib; also written where a file is given. Raises as `draw`."""
    figure, axes = canvas(len(panels))
    for panel, axis in zip(panels, axes, strict=False):
        panel(axis)
    legend(figure, axes[: len(panels)])
    if file is not None:
        save(figure, file)
    return figure


def is_on_curve(row: Row) -> bool:
    """Whether it was shown whole demonstrations, of which nothing but the number counts."""
    return not row.shots.text_only and row.ablation == "none"


class _Line(NamedTuple):
    """A model with one seed."""

    model: str
    seed: int

    @classmethod
    def of(cls, row: Row) -> _Line:
        return cls(row.model, row.seed)

    def label(self, lines: Sequence[_Line]) -> str:
        """With the seed where the model has several."""
        several = sum(line.model == self.model for line in lines) > 1
        return f"{self.model}, seed {self.seed}" if several else self.model


def check(file: Path, rows: Sequence[Row]) -> None:
    """Raises ConfigError for another ending, or where no row has a value."""
    if file.suffix not in FORMATS:
        raise ConfigError(
            f"curves can be written as {', '.join(FORMATS)}, not {file.suffix or 'without an extension'}",
            where=file,
        )
    if not any(row.value is not None for row in rows):
        raise ConfigError("no scored runs to plot", hint="emu2eval ls runs")


def canvas(panels: int) -> tuple[Any, Sequence[Any]]:
    """A figure and its axes, at least one a panel; those left over are empty."""
    try:
        import matplotlib
    except ImportError:
        raise MissingExtra("matplotlib", "plots", why="plotting curves") from None
    # Text as text, so that an SVG can be read and searched; its ids the same for the same image.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "emu2eval"})
    # A dollar in a name is a dollar.
    matplotlib.rcParams["text.parse_math"] = False
    from matplotlib.figure import Figure

    across = min(3, panels)
    down = -(-panels // across)
    figure = Figure(figsize=(4.2 * across, 3.2 * down), layout="constrained")
    axes: list[Any] = list(figure.subplots(down, across, squeeze=False).ravel())
    for axis in axes[panels:]:
        axis.set_axis_off()
    return figure, axes


def legend(figure: Any, axes: Sequence[Any]) -> None:
    """One for all panels."""
    handles: list[Any] = []
    labels: list[str] = []
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            if label not in labels:
                handles.append(handle)
                labels.append(label)
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)))


def save(figure: Any, file: Path) -> None:
    """Raises StoreError where the file cannot be written."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_text(printable(text.get_text()))  # a control character is no XML
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, dpi=150, metadata={"Date": None} if file.suffix == ".svg" else None)
    except OSError as error:
        raise StoreError(f"cannot write the image ({error.strerror})", where=file) from None


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
    """How far the intervals reach below and above the values; 0 where there is none."""
    values = [row.value or 0.0 for row in rows]
    below = [
        0.0 if row.low is None else max(0.0, v - row.low)
        for v, row in zip(values, rows, strict=True)
    ]
    above = [
        0.0 if row.high is None else max(0.0, row.high - v)
        for v, row in zip(values, rows, strict=True)
    ]
    return [below, above]


def _panel(axis: Any, rows: Sequence[Row], lines: Sequence[_Line]) -> None:
    for number, each in enumerate(lines):
        own = [row for row in rows if _Line.of(row) == each]
        if own:
            line(axis, [row.shots.count for row in own], own, each.label(lines), number)
    for name, values, style in (
        ("ceiling", {r.shots.count: r.ceiling for r in rows if r.ceiling is not None}, "--"),
        ("chance", {r.shots.count: r.chance for r in rows if r.chance is not None}, ":"),
    ):
        shots = sorted(values)
        if shots:
            axis.plot(shots, [values[k] for k in shots], style, color="0.5", lw=1, label=name)
    axis.set_title(title(rows[0]), fontsize=10)
    axis.set_xlabel("demonstrations")
    axis.set_ylabel(rows[0].label)
    axis.set_xticks(sorted({row.shots.count for row in rows}))
    axis.set_ylim(bottom=min(0.0, *(row.value or 0.0 for row in rows)))
    axis.grid(alpha=0.3)


def title(row: Row) -> str:
    """Of a panel: what its numbers are of."""
    version = f" v{row.version}" if row.version != 1 else ""
    return f"{row.task}{version} ({row.split}, {row.protocol_label})"
