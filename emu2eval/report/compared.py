"""Comparisons of runs as tables: differences, and the samples at which two runs differ."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from emu2eval.compare.comparison import Comparison, Difference, Flip
from emu2eval.exports import fields
from emu2eval.report import formats, latex
from emu2eval.report.formats import Column, ends, number

if TYPE_CHECKING:
    from rich.console import RenderableType


def chance(p: float | None) -> str:
    """A p-value.

    >>> chance(0.0412), chance(1e-9), chance(1.0), chance(None)
    ('0.0412', '<0.0001', '1.0000', '–')
    """
    if p is None:
        return "–"
    return "<0.0001" if p < 0.0001 else f"{p:.4f}"


def _count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def _signed(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:+.{digits}f}"


DIFFERENCES: tuple[Column[Difference], ...] = (
    Column("task", lambda d: d.task, shared=True),
    Column("protocol", lambda d: d.protocol, shared=True),
    Column("split", lambda d: d.split, shared=True),
    Column("metric", lambda d: d.label, shared=True),
    Column("A", lambda d: d.first, shared=True),
    Column("B", lambda d: d.second, shared=True),
    Column("group", lambda d: d.group or "", empty="", heading=True),
    Column("A value", lambda d: number(d.first_value, d.digits), number=True),
    Column("B value", lambda d: number(d.second_value, d.digits), number=True),
    Column("B − A", lambda d: _signed(d.difference, d.digits), number=True),
    Column("± s.e.", lambda d: number(d.error, d.digits), number=True, least=4),
    Column("95 %", lambda d: ends(d.low, d.high, d.digits), number=True),
    Column("p", lambda d: chance(d.p), number=True),
    Column("p (Holm)", lambda d: chance(d.holm), number=True, empty="–"),
    Column("McNemar", lambda d: chance(d.mcnemar), number=True, empty="–", least=7),
    Column("wins", lambda d: _count(d.wins), number=True, least=3),
    Column("losses", lambda d: _count(d.losses), number=True, least=3),
    Column("ties", lambda d: _count(d.ties), number=True, least=5),
    Column("n", lambda d: f"{d.n:,}", number=True),
    Column("clusters", lambda d: f"{d.clusters:,}", number=True, least=8),
    Column("detectable", lambda d: number(d.detectable, d.digits), number=True, least=6),
    Column("unmatched", lambda d: f"{d.unmatched:,}", number=True, empty="0", warns=True),
    Column("unscored", lambda d: f"{d.unscored:,}", number=True, empty="0", warns=True),
    Column("notes", lambda d: "; ".join(d.notes), empty="", shared=True, warns=True, foot=True),
)

FLIPS: tuple[Column[Flip], ...] = (
    Column("task", lambda f: f.task, shared=True),
    Column("A", lambda f: f.first, shared=True),
    Column("B", lambda f: f.second, shared=True),
    Column("sample", lambda f: f.id),
    Column("trial", lambda f: str(f.trial), number=True, empty="0"),
    Column("take", lambda f: str(f.take), number=True, empty="0"),
    Column("A's answer", lambda f: repr(f.first_prediction)),
    Column("B's answer", lambda f: repr(f.second_prediction)),
    Column("A's score", lambda f: f"{f.first_value:.4g}", number=True),
    Column("B's score", lambda f: f"{f.second_value:.4g}", number=True),
    Column("B is", lambda f: "better" if f.better else "worse"),
)

LEGEND = (
    "wins, losses: samples on which B is better or worse. p: p-value for no difference, by sign flips of "
    "whole clusters; McNemar: the same, treating all samples as independent. detectable: the smallest true "
    "difference that would be detected in four cases out of five (80 % power, 5 % level)."
)
SINGLE = "sub-scores and further metrics are not corrected for multiple comparisons"


def worse(one: Difference) -> str:
    """Of a difference that a check fails on, a sentence."""
    by = _signed(one.difference, one.digits)
    p = one.p if one.holm is None else one.holm
    return (
        f"{one.second} is worse than {one.first} on {one.task}: {one.label} "
        f"{number(one.first_value, one.digits)} -> {number(one.second_value, one.digits)} "
        f"({by}, 95 % {ends(one.low, one.high, one.digits)}, p {chance(p)})"
    )


def comparison_tables(
    made: Comparison, flips: Sequence[Flip] = (), shown: Sequence[Difference] | None = None
) -> RenderableType:
    """For a terminal: the differences, what the columns mean, and the flipped samples asked for."""
    from rich.console import Group
    from rich.text import Text

    differences = made.differences if shown is None else shown
    parts: list[RenderableType] = [
        formats.rich_table(
            formats.needed(DIFFERENCES, differences),
            differences,
            section=lambda d: (d.task, d.first, d.second),
            lift=1,
        )
    ]
    text = (
        LEGEND
        if len(differences) == len({(d.first_run, d.second_run) for d in differences})
        else (f"{LEGEND} {SINGLE.capitalize()}.")
    )
    parts.append(Text(text, style="dim"))
    if flips:
        total = len(made.flips)
        parts.append(Text(f"{len(flips):,} of {total:,} samples that differ", style="bold"))
        parts.append(formats.rich_table(formats.needed(FLIPS, flips), flips, lift=1))
    return Group(*parts)


def render(differences: Sequence[Difference], flips: Sequence[Flip], form: str) -> str:
    """As text. CSV holds one table: the flips where some were asked for, else the differences."""
    columns = formats.needed(DIFFERENCES, differences), formats.needed(FLIPS, flips)

    def two(table: formats.Text, other: formats.Text | None = None) -> str:
        below = "\n" + (other or table)(columns[1], flips) if flips else ""
        return table(columns[0], differences) + below

    forms = {
        "csv": lambda: (
            formats.csv_text(Flip, flips) if flips else formats.csv_text(Difference, differences)
        ),
        "json": lambda: formats.json_text(
            {
                "differences": [fields.plain(each) for each in differences],
                "flips": [fields.plain(each) for each in flips],
            }
        ),
        "latex": lambda: two(
            partial(latex.table, label="differences", notes=[LEGEND]),
            partial(latex.table, label="flips", caption="Samples that differ"),
        ),
    }
    return formats.chosen(forms, form)
