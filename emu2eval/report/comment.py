"""A comparison as Markdown for a job's summary or a pull request: conclusion first, details folded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from emu2eval.compare.comparison import Difference, Flip
from emu2eval.compare.gate import Gate, Verdict
from emu2eval.report import formats
from emu2eval.report.compared import DIFFERENCES, FLIPS, LEGEND, SINGLE, chance
from emu2eval.report.formats import Column, ends, number
from emu2eval.report.notes import counted

MOST = 40
"""Lines of a table in sight; GitHub takes comments of up to 65,536 characters."""
LONGEST = 60_000
_SIGNS: dict[Verdict, str] = {
    "worse": "🔴 worse",
    "better": "🟢 better",
    "unclear": "⚪ no significant difference",
}


@dataclass(frozen=True, slots=True)
class _Line:
    difference: Difference
    verdict: Verdict


def render(
    differences: Sequence[Difference],
    flips: Sequence[Flip],
    gate: Gate,
    alone: Sequence[str] = (),
    flipped: int = 0,
) -> str:
    """Markdown. Differences of whole runs are judged, one a pair of runs; the others stand folded.

    flips: those to list, of `flipped` in all. alone: runs without a partner.
    """
    lines = [_Line(one, gate.verdict(one)) for one in gate.heads(differences)]
    changed = [line for line in lines if line.verdict != "unclear"]
    shown = lines if len(lines) <= MOST else (changed or lines)[:MOST]
    parts = [
        f"**{conclusion(lines, gate)}**",
        formats.markdown(formats.needed(_COLUMNS, shown), shown),
    ]
    if len(shown) < len(lines):
        parts.append(f"{counted(len(lines) - len(shown), 'more comparison')} not shown.")
    if alone:
        names = ", ".join(code(name) for name in alone[:MOST])
        parts.append(f"Without a counterpart: {names}{', …' if len(alone) > MOST else ''}")
    if flips:
        title = f"{len(flips):,} of {counted(flipped or len(flips), 'sample')} that differ"
        parts.append(
            _folded(
                title, formats.markdown(list(map(_quoted, formats.needed(FLIPS, flips))), flips)
            )
        )
    more = "\n".join(
        [formats.markdown(formats.needed(DIFFERENCES, differences), differences), LEGEND]
    )
    if len(differences) > len(lines):
        more += f" {SINGLE.capitalize()}."
    parts.append(_folded("All columns", more))
    kept: list[str] = []
    length = 0
    for part in parts:
        length += len(part)
        if kept and length > LONGEST:
            kept.append("Further details omitted: too long for a comment.")
            break
        kept.append(part)
    return "\n\n".join(part.rstrip("\n") for part in kept) + "\n"


def conclusion(lines: Sequence[_Line], gate: Gate) -> str:
    """One sentence: how many comparisons are worse, better, or show no difference, and by which rule."""
    counts = {verdict: sum(line.verdict == verdict for line in lines) for verdict in _SIGNS}
    by = (
        f"by more than {gate.margin:g}"
        if gate.margin is not None
        else f"at the {gate.level * 100:g} % level"
        + (", corrected (Holm)" if any(line.difference.holm is not None for line in lines) else "")
    )
    if len(lines) == 1:
        (line,) = lines
        one = line.difference
        said = {
            "worse": f"{code(one.second)} is worse than {code(one.first)}",
            "better": f"{code(one.second)} is better than {code(one.first)}",
            "unclear": f"No significant difference between {code(one.first)} and {code(one.second)}",
        }[line.verdict]
        return f"{said} on {code(one.task)} ({by})"
    named = [f"{counts['worse']} worse", f"{counts['better']} better"]
    named.append(f"{counts['unclear']} without a significant difference")
    return f"Of {len(lines)} comparisons: {', '.join(named)} ({by})"


def _value(one: float | None, difference: Difference) -> str:
    return number(one, difference.digits)


def _change(one: Difference) -> str:
    if one.difference is None:
        return "–"
    text = f"**{one.difference:+.{one.digits}f}**".replace("-", "−")
    return f"{text} {ends(one.low, one.high, one.digits)}" if one.low is not None else text


def _flipped(one: Difference) -> str:
    return "" if one.wins is None else f"{one.wins:,} better, {one.losses:,} worse"


_COLUMNS: tuple[Column[_Line], ...] = (
    Column("task", lambda line: code(line.difference.task)),
    Column("A", lambda line: code(line.difference.first)),
    Column("B", lambda line: code(line.difference.second)),
    Column("metric", lambda line: code(line.difference.label)),
    Column(
        "A value", lambda line: _value(line.difference.first_value, line.difference), number=True
    ),
    Column(
        "B value", lambda line: _value(line.difference.second_value, line.difference), number=True
    ),
    Column("B − A [95 %]", lambda line: _change(line.difference), number=True),
    Column(
        "p",
        lambda line: chance(
            line.difference.p if line.difference.holm is None else line.difference.holm
        ),
        number=True,
    ),
    Column("samples", lambda line: f"{line.difference.n:,}", number=True),
    Column("flipped", lambda line: _flipped(line.difference), empty=""),
    Column("unscored", lambda line: f"{line.difference.unscored:,}", number=True, empty="0"),
    Column("", lambda line: _SIGNS[line.verdict]),
    Column("notes", lambda line: "; ".join(line.difference.notes), empty=""),
)


def _quoted(column: Column[Flip]) -> Column[Flip]:
    return replace(
        column, cell=lambda flip: code(column.cell(flip)), empty=column.empty and code(column.empty)
    )


def code(text: str) -> str:
    """The text as code, in which GitHub finds no name to notify, no link and no image.

    >>> code("@all `x`")
    '`` @all `x` ``'
    """
    longest = max(map(len, re.findall("`+", text)), default=0)
    mark = "`" * (longest + 1)
    space = " " if "`" in text or not text.strip() else ""
    return f"{mark}{space}{text}{space}{mark}"


def _folded(title: str, body: str) -> str:
    return f"<details><summary>{formats.markdown_text(title)}</summary>\n\n{body.rstrip()}\n\n</details>"
