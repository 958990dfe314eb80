"""A results table as rich, Markdown, CSV, JSON or LaTeX."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from emu2eval.compare.comparable import Measure
from emu2eval.report import formats, latex
from emu2eval.report.formats import Column, ends, number
from emu2eval.report.notes import notes
from emu2eval.types import Row

if TYPE_CHECKING:
    from rich.console import RenderableType

COLUMNS: tuple[Column[Row], ...] = (
    Column("task", lambda row: row.task, shared=True),
    Column("protocol", lambda row: row.protocol_label, shared=True),
    Column("split", lambda row: row.split, shared=True),
    Column("group", lambda row: row.group or "", empty="", heading=True),
    Column("model", lambda row: row.model, heading=True),
    Column("shots", lambda row: row.setting, number=True),
    Column("seed", lambda row: str(row.seed), number=True, empty="0", least=1),
    Column("metric", lambda row: row.label, shared=True),
    Column("value", lambda row: number(row.value, row.digits), number=True),
    Column("± s.e.", lambda row: number(row.stderr, row.digits), number=True, least=3),
    Column(
        "95 %", lambda row: ends(row.low, row.high, row.digits), number=True, empty="–", least=2
    ),
    Column("spread", lambda row: number(row.spread, row.digits), number=True, empty="–", least=6),
    Column("chance", lambda row: number(row.chance, 1), number=True, empty="–", least=7),
    Column("ceiling", lambda row: number(row.ceiling, 1), number=True, empty="–", least=8),
    Column("n", lambda row: f"{row.n:,}", number=True),
    Column("trials", lambda row: str(row.trials), number=True, empty="1", least=5),
    Column("unscored", lambda row: f"{row.unscored:,}", number=True, warns=True),
    Column("hidden", lambda row: f"{row.hidden:,}", number=True, empty="0"),
    Column("seconds", lambda row: number(row.seconds, 1), number=True, empty="0.0", least=9),
    Column("notes", lambda row: "; ".join(notes(row)), empty="", shared=True, foot=True),
)


def order(rows: Sequence[Row]) -> list[Row]:
    """By task, protocol, split, group and model; then by shots, 0* right after 0, and by ablation."""
    return sorted(rows, key=_key)


def _key(row: Row) -> tuple[object, ...]:
    where = (row.task, row.protocol_label, row.split, row.group or "", row.model)
    return (*where, row.shots.rank, _ablation(row), row.seed)


def _ablation(row: Row) -> str:
    return "" if row.ablation == "none" else row.ablation


GROUPS: Mapping[str, Callable[[Row], str]] = {
    "task": lambda row: row.task,
    "model": lambda row: row.model,
    "shots": lambda row: row.setting,
    "protocol": lambda row: row.protocol_label,
    "split": lambda row: row.split,
}
"""What rows can be grouped by."""


def columns(rows: Sequence[Row]) -> list[Column[Row]]:
    """The columns that these rows need."""
    found = formats.needed(COLUMNS, rows)
    for column, where in _TELLING:
        if len({(row.task, row.label, column.cell(row)) for row in rows}) > len(
            {(row.task, row.label) for row in rows}
        ):
            place = next(i for i, known in enumerate(found) if known.name == where)
            found.insert(place + 1, column)
    return found


_TELLING: tuple[tuple[Column[Row], str], ...] = (
    (Column("version", lambda row: str(row.version), number=True), "task"),
    (Column("encoder", lambda row: row.encoder or ""), "metric"),
)
"""Columns that only tell numbers of one name apart, and which column each stands after."""


def rich_table(
    rows: Sequence[Row], *, title: str | None = None, by: str | None = None
) -> RenderableType:
    """For a terminal. Texts from files are shown as they are, never taken for markup.

    by: one of GROUPS, separated by lines; by default task and model.
    """
    return formats.rich_table(
        columns(rows),
        rows,
        title=title,
        section=lambda row: (row.task, row.model) if by is None else GROUPS[by](row),
    )


def render(rows: Sequence[Row], form: str) -> str:
    """The table as text. Raises UnknownName for a format that does not exist."""
    forms = {
        "csv": lambda: formats.csv_text(Row, rows),
        "json": lambda: formats.json_items(rows),
        "latex": lambda: latex.table(
            columns(rows),
            rows,
            label="results",
            best=partial(_best, rows),
            section=lambda row: (row.task, row.model),
        ),
        "markdown": lambda: formats.markdown(columns(rows), rows),
    }
    return formats.chosen(forms, form)


def _best(rows: Sequence[Row], column: Column[Row], row: Row) -> bool:
    """Whether a value is the best of those that other models have at the same place."""
    if column.name != "value" or row.value is None:
        return False
    rivals = [
        other.value for other in rows if other.value is not None and _place(other) == _place(row)
    ]
    best = (max if row.higher_is_better else min)(rivals)
    return row.value == best and min(rivals) < max(rivals)


def _place(row: Row) -> tuple[object, ...]:
    return (Measure.of(row), row.setting, row.group)
