"""A results table as rich, Markdown, CSV, JSON or LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import msgspec

from emu2eval.errors import UnknownName
from emu2eval.types import Row

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    cell: Callable[[Row], str]
    number: bool = False


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


COLUMNS = (
    Column("task", lambda row: row.task),
    Column("protocol", lambda row: row.protocol),
    Column("split", lambda row: row.split),
    Column("group", lambda row: row.group or ""),
    Column("model", lambda row: row.model),
    Column("shots", lambda row: row.shots, number=True),
    Column("metric", lambda row: row.metric),
    Column("value", lambda row: _number(row.value, 2), number=True),
    Column("± s.e.", lambda row: _number(row.stderr, 2), number=True),
    Column("chance", lambda row: _number(row.chance, 1), number=True),
    Column("ceiling", lambda row: _number(row.ceiling, 1), number=True),
    Column("n", lambda row: f"{row.n:,}", number=True),
    Column("trials", lambda row: str(row.trials), number=True),
    Column("unscored", lambda row: f"{row.unscored:,}", number=True),
    Column("seconds", lambda row: _number(row.seconds, 1), number=True),
    Column("notes", lambda row: "; ".join(row.notes)),
)
# Left out where no row has anything to say there.
_OPTIONAL = {"group": "", "notes": "", "trials": "1", "chance": "–", "ceiling": "–"}


def order(rows: Sequence[Row]) -> list[Row]:
    """By task, protocol, split, group and model; shots in rising order, 0* behind 0."""

    def key(row: Row) -> tuple[object, ...]:
        count = int(row.shots.rstrip("*"))
        starred = row.shots.endswith("*")
        return (row.task, row.protocol, row.split, row.group or "", row.model, count, starred)

    return sorted(rows, key=key)


def columns(rows: Sequence[Row]) -> list[Column]:
    """The columns that these rows need."""
    return [
        column
        for column in COLUMNS
        if column.name not in _OPTIONAL
        or any(column.cell(row) != _OPTIONAL[column.name] for row in rows)
    ]


def rich_table(rows: Sequence[Row], *, title: str | None = None) -> RenderableType:
    """For a terminal. Texts from files are shown as they are, never taken for markup."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", header_style="bold")
    chosen = columns(rows)
    for column in chosen:
        table.add_column(
            column.name, justify="right" if column.number else "left", no_wrap=column.number
        )
    previous = None
    for row in rows:
        if previous is not None and (row.task, row.model) != (previous.task, previous.model):
            table.add_section()
        style = "bold red" if row.unscored else ""
        table.add_row(
            *(
                Text(column.cell(row), style=style if column.name == "unscored" else "")
                for column in chosen
            )
        )
        previous = row
    return table


def markdown(rows: Sequence[Row]) -> str:
    chosen = columns(rows)
    lines = [
        "| " + " | ".join(column.name for column in chosen) + " |",
        "|" + "|".join(" ---: " if column.number else " --- " for column in chosen) + "|",
    ]
    for row in rows:
        cells = (column.cell(row).replace("|", r"\|") for column in chosen)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def csv_text(rows: Sequence[Row]) -> str:
    """Every field of every row, numbers unrounded."""
    out = io.StringIO()
    names = [field.name for field in fields(Row)]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        values = [getattr(row, name) for name in names]
        writer.writerow(["; ".join(v) if isinstance(v, tuple) else v for v in values])
    return out.getvalue()


def json_text(rows: Sequence[Row]) -> str:
    """Every field of every row, numbers unrounded."""
    return msgspec.json.format(msgspec.json.encode(list(rows)), indent=2).decode() + "\n"


def latex(rows: Sequence[Row]) -> str:
    """A booktabs tabular."""
    chosen = columns(rows)
    lines = [
        r"\begin{tabular}{" + "".join("r" if c.number else "l" for c in chosen) + "}",
        r"\toprule",
        " & ".join(_latex(column.name) for column in chosen) + r" \\",
        r"\midrule",
        *(" & ".join(_latex(column.cell(row)) for column in chosen) + r" \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_LATEX |= {character: "\\" + character for character in "&%$#_{}"}
_LATEX |= {"±": r"$\pm$", "–": "--"}


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


FORMATS: dict[str, Callable[[Sequence[Row]], str]] = {
    "csv": csv_text,
    "json": json_text,
    "latex": latex,
    "markdown": markdown,
}


def render(rows: Sequence[Row], form: str) -> str:
    """The table as text. Raises UnknownName for a format that does not exist."""
    if form not in FORMATS:
        raise UnknownName("format", form, [*FORMATS, "rich"], where="--format")
    return FORMATS[form](rows)
