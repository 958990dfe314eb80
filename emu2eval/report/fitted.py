"""A table that fits the terminal: names and values are never cut.

Where not all columns fit, notes become footnotes, what rows share becomes a heading above them, and what
matters least is left out and named below. Where even that is too wide, the columns stand in parts below one
another, each led by the first column; a single row, or one that fits in no part, becomes a list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from emu2eval.report.formats import Column, superscript

LONG = 28
"""Cells: texts beyond are folded rather than that columns are left out for them."""


@dataclass(frozen=True)
class Fitted:
    """Rows of columns for a terminal of any width.

    above: what stands in the line above. section: a line is drawn where it changes.
    """

    columns: Sequence[Column[Any]]
    items: Sequence[Any]
    above: Sequence[str]
    section: Callable[[Any], object]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        columns = list(self.columns)
        if self.above:
            yield Text(" · ".join(self.above), style="italic")
        if self._bordered(columns, {}) <= width:
            yield self._table(columns, {})
            return
        noted = [column for column in columns if column.foot]
        columns = [column for column in columns if column not in noted]
        marks, notes = self._marks(noted)
        left_out: list[str] = []
        if self._bordered(columns, marks) <= width:
            yield self._table(columns, marks)
        else:
            heads: list[Column[Any]] = []
            for kind in (_is_shared, _is_name):
                if self._plain(columns, marks) > width:
                    heads += [column for column in columns if kind(column)]
                    columns = [column for column in columns if not kind(column)] or columns
            while self._plain(columns, marks) > width:
                least = max(columns, key=lambda column: column.least)
                if not least.least:
                    break
                columns.remove(least)
                left_out.append(least.name)
            if self._plain(columns, marks) <= width:
                yield from self._grouped(heads, columns, marks)
            elif parts := self._parts([*heads, *columns], marks, width):
                for part in parts:
                    yield self._table(part, marks)
            else:
                yield from self._listed([*heads, *columns], marks)
        for mark, note in notes.items():
            yield Text(f"{mark} {note}", style="dim")
        if left_out:
            named = ", ".join(reversed(left_out))
            yield Text(f"columns hidden at this width: {named}", style="dim")

    def _table(self, columns: Sequence[Column[Any]], marks: dict[int, str]) -> Table:
        table = Table(header_style="bold")
        for column in columns:
            long = self._width(column, {}) > LONG and not column.number
            table.add_column(
                column.name,
                justify="right" if column.number else "left",
                no_wrap=not long,
                overflow="fold",
            )
        previous = None
        for place, item in enumerate(self.items):
            if previous is not None and self.section(item) != self.section(previous):
                table.add_section()
            table.add_row(*self._cells(columns, place, marks))
            previous = item
        return table

    def _grouped(
        self, heads: Sequence[Column[Any]], columns: Sequence[Column[Any]], marks: dict[int, str]
    ) -> Iterator[Table | Text]:
        """Rows below a heading that names what they share."""
        first = True

        def head(place: int) -> tuple[str, ...]:
            cells = (column.cell(self.items[place]) for column in heads)
            return tuple(cell for cell in cells if cell)

        for heading, places in groupby(range(len(self.items)), head):
            table = Table(box=None, header_style="bold", show_header=first, pad_edge=False)
            for column in columns:
                table.add_column(
                    column.name,
                    justify="right" if column.number else "left",
                    min_width=min(self._width(column, marks), LONG),
                    no_wrap=column.number or self._width(column, {}) <= LONG,
                    overflow="fold",
                )
            if heading and not first:
                yield Text(" · ".join(heading), style="bold")
            for place in places:
                table.add_row(*self._cells(columns, place, marks))
            if heading and first:
                # The names of the columns stand above the first heading.
                bare = Table(box=None, header_style="bold", pad_edge=False)
                for column, made in zip(columns, table.columns, strict=True):
                    bare.add_column(
                        column.name, justify=made.justify, min_width=made.min_width, no_wrap=True
                    )
                yield bare
                yield Text(" · ".join(heading), style="bold")
                table.show_header = False
            yield table
            first = False

    def _parts(
        self, columns: Sequence[Column[Any]], marks: dict[int, str], width: int
    ) -> list[list[Column[Any]]]:
        """The columns in parts that fit, each led by the first; empty where there is no such way."""
        first, *others = columns
        if len(self.items) < 2:
            return []
        parts = [[first]]
        for column in others:
            if len(parts[-1]) > 1 and self._bordered([*parts[-1], column], marks) > width:
                parts.append([first])
            parts[-1].append(column)
        return parts if all(self._bordered(part, marks) <= width for part in parts) else []

    def _listed(
        self, columns: Sequence[Column[Any]], marks: dict[int, str]
    ) -> Iterator[Table | Text]:
        """Each row as a list of names and values."""
        for place in range(len(self.items)):
            table = Table(box=None, show_header=False, pad_edge=False)
            table.add_column(style="dim", no_wrap=True)
            table.add_column(overflow="fold")
            for column, cell in zip(columns, self._cells(columns, place, marks), strict=True):
                table.add_row(column.name, cell)
            if place:
                yield Text("")
            yield table

    def _cells(
        self, columns: Sequence[Column[Any]], place: int, marks: dict[int, str]
    ) -> list[Text]:
        cells = []
        last = self._marked(columns)
        for column in columns:
            text = column.cell(self.items[place])
            loud = column.warns and text not in (column.empty, "0")
            marked = text + marks.get(place, "") if column is last else text
            cells.append(Text(marked, style="bold red" if loud else ""))
        return cells

    def _marks(self, noted: Sequence[Column[Any]]) -> tuple[dict[int, str], dict[str, str]]:
        """The mark of each row, and the note of each mark."""
        marks: dict[int, str] = {}
        known: dict[str, str] = {}
        for place, item in enumerate(self.items):
            for column in noted:
                text = column.cell(item)
                if text != column.empty:
                    mark = known.setdefault(text, superscript(len(known)))
                    marks[place] = marks.get(place, "") + mark
        return marks, {mark: text for text, mark in known.items()}

    def _marked(self, columns: Sequence[Column[Any]]) -> Column[Any] | None:
        named = [column for column in columns if column.name == "value"]
        return next(iter(named or columns), None)

    def _width(self, column: Column[Any], marks: dict[int, str]) -> int:
        cells = [column.cell(item) for item in self.items]
        if column is self._marked(self.columns):
            cells = [cell + marks.get(place, "") for place, cell in enumerate(cells)]
        return max(map(cell_len, (column.name, *cells)))

    def _needed(self, columns: Sequence[Column[Any]], marks: dict[int, str]) -> int:
        return sum(
            width if column.number else min(width, LONG)
            for column in columns
            for width in (self._width(column, marks),)
        )

    def _bordered(self, columns: Sequence[Column[Any]], marks: dict[int, str]) -> int:
        return self._needed(columns, marks) + 3 * len(columns) + 1

    def _plain(self, columns: Sequence[Column[Any]], marks: dict[int, str]) -> int:
        return self._needed(columns, marks) + 2 * len(columns)


def _is_shared(column: Column[Any]) -> bool:
    return column.shared


def _is_name(column: Column[Any]) -> bool:
    return column.heading
