"""A results table as rich, Markdown, CSV, JSON or LaTeX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from emu2eval.report import formats
from emu2eval.report.formats import Column, ends, number
from emu2eval.types import Row

if TYPE_CHECKING:
    from rich.console import RenderableType

SET_SCALED = "the scale depends on the set"


def _notes(row: Row) -> str:
    return "; ".join((*row.notes, *((SET_SCALED,) if row.set_scaled else ())))


COLUMNS: tuple[Column[Row], ...] = (
    Column("task", lambda row: row.task, shared=True),
    Column("protocol", lambda row: row.protocol, shared=True),
    Column("split", lambda row: row.split, shared=True),
    Column("group", lambda row: row.group or "", empty=""),
    Column("model", lambda row: row.model),
    Column("shots", lambda row: row.shots, number=True),
    Column("metric", lambda row: row.metric, shared=True),
    Column("value", lambda row: number(row.value, row.digits), number=True),
    Column("± s.e.", lambda row: number(row.stderr, row.digits), number=True),
    Column("95 %", lambda row: ends(row.low, row.high, row.digits), number=True, empty="–"),
    Column("spread", lambda row: number(row.spread, row.digits), number=True, empty="–"),
    Column("chance", lambda row: number(row.chance, 1), number=True, empty="–"),
    Column("ceiling", lambda row: number(row.ceiling, 1), number=True, empty="–"),
    Column("n", lambda row: f"{row.n:,}", number=True),
    Column("trials", lambda row: str(row.trials), number=True, empty="1"),
    Column("unscored", lambda row: f"{row.unscored:,}", number=True, warns=True),
    Column("seconds", lambda row: number(row.seconds, 1), number=True, empty="0.0"),
    Column("notes", _notes, empty="", shared=True),
)


def order(rows: Sequence[Row]) -> list[Row]:
    """By task, protocol, split, group and model; shots in rising order, 0* behind 0, then ablated ones."""

    def key(row: Row) -> tuple[object, ...]:
        count, _, ablation = row.shots.partition(" ")
        shots = (int(count.rstrip("*")), count.endswith("*"), ablation)
        return (row.task, row.protocol, row.split, row.group or "", row.model, *shots)

    return sorted(rows, key=key)


def columns(rows: Sequence[Row]) -> list[Column[Row]]:
    """The columns that these rows need."""
    return formats.needed(COLUMNS, rows)


def rich_table(
    rows: Sequence[Row], *, title: str | None = None, by: str | None = None
) -> RenderableType:
    """For a terminal. Texts from files are shown as they are, never taken for markup.

    by: the field whose groups a line stands between; else task and model.
    """
    return formats.rich_table(
        columns(rows),
        rows,
        title=title,
        section=lambda row: (row.task, row.model) if by is None else getattr(row, by),
    )


def render(rows: Sequence[Row], form: str) -> str:
    """The table as text. Raises UnknownName for a format that does not exist."""
    forms = {
        "csv": lambda: formats.csv_text(Row, rows),
        "json": lambda: formats.json_text(list(rows)),
        "latex": lambda: formats.latex(columns(rows), rows),
        "markdown": lambda: formats.markdown(columns(rows), rows),
    }
    return formats.chosen(forms, form)
