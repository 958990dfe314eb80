"""Tables for an article: floats with booktabs rules, headings over neighbouring columns, the best in bold."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby, takewhile

from emu2eval.errors import printable
from emu2eval.report.formats import SUPERSCRIPTS, Column, Item

PREAMBLE = r"% Needs \usepackage{booktabs} and \usepackage{graphicx} in the preamble."
_FITTED = r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%"
"""A box that is as wide as the text at most; one that is narrower keeps its size."""


_READABLE = (
    120  # characters of a line that, made as wide as the text of an article, can still be read
)


def table(
    columns: Sequence[Column[Item]],
    items: Sequence[Item],
    *,
    label: str,
    caption: str = "",
    notes: Iterable[str] = (),
    best: Callable[[Column[Item], Item], bool] = lambda column, item: False,
    section: Callable[[Item], object] = lambda item: None,
    split: bool = False,
) -> str:
    """A float that compiles as it stands, after PREAMBLE.

    What all rows share (`Column.shared`) stands in the caption and not in the table. label: after `tab:`.
    best: whether a cell is bold. section: a rule is drawn where it changes.
    split: a line too long to be read goes on in a second table below, without the rows that are empty there.
    """
    said = [caption] if caption else []
    if len(items) > 1:
        same = [c for c in columns if c.shared and len({c.cell(item) for item in items}) == 1]
        said += [f"{column.name}: {column.cell(items[0])}" for column in same]
        columns = [column for column in columns if column not in same]
    lines = [PREAMBLE, r"\begin{table}[t]", r"\centering"]
    if said:
        lines.append(rf"\caption{{{text('. '.join(part.rstrip('.') for part in said))}.}}")
    lines.append(rf"\label{{tab:{slug(label)}}}")
    kept = _read(columns, items)
    blocks = list(_blocks(kept, items)) if split else [kept]
    # One box around all, so that they are of one size.
    lines += [_FITTED, *([r"\begin{tabular}{@{}c@{}}"] if len(blocks) > 1 else [])]
    for number, block in enumerate(blocks):
        lines += [r"\\[1.5ex]"] if number else []
        lines.append(rf"\begin{{tabular}}{{{''.join('r' if c.number else 'l' for c in block)}}}")
        lines += [r"\toprule", *_heads(block), r"\midrule"]
        there = [item for item in items if len(blocks) == 1 or _says(block, item)]
        for place, (_, rows) in enumerate(groupby(there, section)):
            lines += [r"\midrule"] if place else []
            lines += [_row(_cells(block, item, best)) for item in rows]
        lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [*([r"\end{tabular}"] if len(blocks) > 1 else []), "}"]
    lines += [rf"\par\smallskip{{\footnotesize\raggedright {text(note)}\par}}" for note in notes]
    lines.append(r"\end{table}")
    return "\n".join(lines) + "\n"


def _read(columns: Sequence[Column[Item]], items: Sequence[Item]) -> list[Column[Item]]:
    """The columns without those that matter least, as many as make a line that can be read."""
    kept = list(columns)
    for column in sorted((c for c in columns if c.least), key=lambda c: c.least, reverse=True):
        if _width(kept, items) > _READABLE:
            kept.remove(column)
    return kept


def _blocks(columns: Sequence[Column[Item]], items: Sequence[Item]) -> Iterator[list[Column[Item]]]:
    """The columns in as many tables as it takes to be read; the names in front stand in each."""
    names = list(takewhile(lambda column: not column.number, columns))
    block: list[Column[Item]] = []
    for _, found in groupby(columns[len(names) :], lambda column: column.over or column.name):
        group = list(found)
        if block and _width([*names, *block, *group], items) > _READABLE:
            yield [*names, *block]
            block = []
        block += group
    yield [*names, *block]


def _says(block: Sequence[Column[Item]], item: Item) -> bool:
    return any(column.cell(item) not in ("", "–") for column in block if column.number)


def _width(columns: Sequence[Column[Item]], items: Sequence[Item]) -> int:
    """In characters, with the space between two columns."""
    wide = 0
    for over, found in groupby(columns, lambda column: column.over):
        each = [
            max([len(column.short or column.name), *(len(column.cell(item)) for item in items)]) + 3
            for column in found
        ]
        wide += max(sum(each), len(over))
    return wide


def _heads(columns: Sequence[Column[Item]]) -> Iterator[str]:
    """The names of the columns; above them what neighbours share, with a thin rule below."""
    if any(column.over for column in columns):
        cells, rules, place = [], [], 1
        for over, found in groupby(columns, lambda column: column.over):
            wide = len(list(found))
            cells += [rf"\multicolumn{{{wide}}}{{c}}{{{text(over)}}}"] if over else [""] * wide
            rules += [rf"\cmidrule(lr){{{place}-{place + wide - 1}}}"] if over else []
            place += wide
        yield _row(cells)
        yield " ".join(rules)
    yield _row(text(column.short or column.name) for column in columns)


def _cells(
    columns: Sequence[Column[Item]], item: Item, best: Callable[[Column[Item], Item], bool]
) -> Iterator[str]:
    for column in columns:
        cell = text(column.cell(item))
        yield rf"\textbf{{{cell}}}" if best(column, item) else cell


def _row(cells: Iterable[str]) -> str:
    line = " & ".join(cells) + r" \\"
    # After the end of a row a bracket would begin an option of it.
    return f"{{[}}{line[1:]}" if line.startswith("[") else line


def slug(name: str) -> str:
    """A label: letters, digits and hyphens.

    >>> slug("Emu2, table 1")
    'emu2-table-1'
    """
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "table"


_LETTERS = "abcdefghijklmnoprstuvwxyz"
_COMMANDS = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_COMMANDS |= {character: "\\" + character for character in "&%$#_{}"}
_COMMANDS |= {
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}
_COMMANDS |= {'"': "''", "`": r"\textasciigrave{}"}
_COMMANDS |= {
    sign: f"${command}$"
    for sign, command in {
        "±": r"\pm", "→": r"\to", "−": "-", "·": r"\cdot", "×": r"\times", "≤": r"\le", "≥": r"\ge",
        "≠": r"\ne", "≈": r"\approx", "∞": r"\infty", "Δ": r"\Delta", "↑": r"\uparrow", "↓": r"\downarrow",
        "°": r"^\circ", "²": "^2", "³": "^3", "✓": r"\surd",
    }.items()
}  # fmt: skip
_COMMANDS |= {
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
    "†": r"\dag{}",
    "‡": r"\ddag{}",
    "•": r"\textbullet{}",
}
_COMMANDS |= {
    "’": "'",
    "‘": "`",
    "“": "``",
    "”": "''",
    "\u00a0": "~",
    "\u202f": r"\,",
    "\u2009": r"\,",
}
_COMMANDS |= {"①": r"\textsuperscript{1}", "②": r"\textsuperscript{2}"}
_COMMANDS |= {
    sign: rf"\textsuperscript{{{letter}}}"
    for sign, letter in zip(SUPERSCRIPTS, _LETTERS, strict=True)
}


def text(content: str) -> str:
    """The text with everything that LaTeX takes for a command escaped, and signs that it lacks as commands.

    >>> text("50 % ± 1_a")
    '50 \\\\% $\\\\pm$ 1\\\\_a'
    """
    return "".join(_COMMANDS.get(character, character) for character in printable(content))
