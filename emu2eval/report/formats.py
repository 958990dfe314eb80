"""Tables of anything as rich, Markdown, CSV, JSON or LaTeX: columns for people, all fields for programs."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from emu2eval.errors import UnknownName, printable
from emu2eval.exports import fields

if TYPE_CHECKING:
    from rich.console import RenderableType

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Column(Generic[Item]):
    """empty: the cell that says nothing; a column of these alone is left out. None = never left out.

    warns: red where it is neither empty nor 0. shared: stands above the table, and not in it, where all
    rows say the same. In a narrow terminal: foot: becomes a footnote; heading: stands above its rows, as
    what is shared does; least: the higher, the earlier it is left out, 0 = never. In LaTeX, `over` stands
    above neighbours that share it, and `short` below it.
    """

    name: str
    cell: Callable[[Item], str]
    number: bool = False
    empty: str | None = None
    warns: bool = False
    shared: bool = False
    foot: bool = False
    heading: bool = False
    least: int = 0
    over: str = ""
    short: str = ""


Text = Callable[[Sequence[Column[Any]], Sequence[Any]], str]
"""What makes a text of columns and items, such as `markdown`."""


def number(value: float | None, digits: int) -> str:
    """
    >>> number(-0.04, 1), number(None, 1)
    ('0.0', '–')
    """
    return "–" if value is None else f"{value:z.{digits}f}"


def ends(low: float | None, high: float | None, digits: int = 2) -> str:
    """An interval.

    >>> ends(98.254, 99.9), ends(None, None)
    ('[98.25, 99.90]', '–')
    """
    return "–" if low is None or high is None else f"[{low:.{digits}f}, {high:.{digits}f}]"


def signed(value: float, digits: int) -> str:
    """
    >>> signed(-0.94, 1), signed(2.0, 1)
    ('−0.9', '+2.0')
    """
    return f"{value:+.{digits}f}".replace("-", "−")


SUPERSCRIPTS = "ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻ"


def superscript(place: int) -> str:
    """The mark of a note by its place; q, which Unicode has none of, is left out.

    >>> superscript(0), superscript(25)
    ('ᵃ', 'ᵃᵃ')
    """
    rounds, letter = divmod(place, len(SUPERSCRIPTS))
    return SUPERSCRIPTS[letter] * (rounds + 1)


def needed(columns: Iterable[Column[Item]], items: Sequence[Item]) -> list[Column[Item]]:
    """The columns in which something is said."""
    return [
        column
        for column in columns
        if column.empty is None or any(column.cell(item) != column.empty for item in items)
    ]


def rich_table(
    columns: Sequence[Column[Item]],
    items: Sequence[Item],
    *,
    title: str | None = None,
    section: Callable[[Item], object] = lambda item: None,
    lift: int = 2,
) -> RenderableType:
    """For a terminal of any width. Texts from files are shown as they are, never taken for markup.

    section: a line is drawn where it changes. lift: from how many rows on what they share stands above.
    """
    from emu2eval.report.fitted import Fitted

    above = [title] if title else []
    if len(items) >= lift:
        same = [c for c in columns if c.shared and len({c.cell(item) for item in items}) == 1]
        above += [f"{column.name}: {column.cell(items[0])}" for column in same]
        columns = [column for column in columns if column not in same]
    return Fitted(columns, items, above, section)


def markdown(columns: Sequence[Column[Item]], items: Sequence[Item]) -> str:
    lines = [
        "| " + " | ".join(column.name for column in columns) + " |",
        "|" + "|".join(" ---: " if column.number else " --- " for column in columns) + "|",
    ]
    for item in items:
        cells = (markdown_text(column.cell(item)) for column in columns)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


_MARKDOWN = str.maketrans({"|": r"\|", "<": "&lt;", ">": "&gt;", "\n": " ", "\r": " "})


def markdown_text(text: str) -> str:
    """A cell, with what would end it, begin HTML or make a link or an image escaped.

    >>> markdown_text("a|b <img> c")
    'a\\\\|b &lt;img&gt; c'
    >>> markdown_text("![x](http://y)")
    '![x]\\\\(http://y)'
    """
    return printable(text.translate(_MARKDOWN).replace("](", r"]\("))


def listed(lines: Iterable[str]) -> str:
    """Lines as a Markdown list."""
    return "".join(f"- {line}\n" for line in lines)


def csv_text(kind: type[Any], items: Sequence[Any]) -> str:
    """Every field of every item of a dataclass or a struct, numbers unrounded."""
    return _csv(fields.names(kind), [fields.plain(item) for item in items])


def csv_rows(rows: Sequence[Mapping[str, Any]]) -> str:
    """Mappings that all have the keys of the first."""
    return _csv(list(rows[0]) if rows else [], rows)


def _csv(names: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow([_cell(fields.text(row[name])) for name in names])
    return out.getvalue()


def _cell(value: Any) -> Any:
    """A text that a spreadsheet would take for a formula stands behind an apostrophe."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t"):
        return value if _NUMBER.fullmatch(value) else "'" + value
    return value


_NUMBER = re.compile(r"[+-]?(\d+\.?\d*([eE][+-]?\d+)?|inf|nan)")


def json_text(value: Any) -> str:
    """Indented JSON, numbers unrounded."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n"


def json_items(items: Iterable[Any]) -> str:
    """Every field of every item of a dataclass or a struct, numbers unrounded."""
    return json_text([fields.plain(item) for item in items])


def chosen(forms: Mapping[str, Callable[[], str]], form: str) -> str:
    """What the form of that name makes. Raises UnknownName for one that does not exist."""
    if form not in forms:
        raise UnknownName("format", form, [*forms, "rich"], where="--format")
    return forms[form]()
