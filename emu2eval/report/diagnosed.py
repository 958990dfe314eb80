"""What demonstrations bring, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from emu2eval.compare.diagnose import Contribution, Copying
from emu2eval.exports import fields
from emu2eval.report import formats, latex
from emu2eval.report.compared import chance
from emu2eval.report.formats import Column, ends, number

if TYPE_CHECKING:
    from rich.console import RenderableType

PARTS: tuple[Column[Contribution], ...] = (
    Column("task", lambda p: p.task, shared=True),
    Column("protocol", lambda p: p.protocol, shared=True),
    Column("split", lambda p: p.split, shared=True),
    Column("metric", lambda p: p.metric, shared=True),
    Column("model", lambda p: p.model),
    Column("shots", lambda p: p.shots, number=True),
    Column("seed", lambda p: str(p.seed), number=True, empty="0"),
    Column("contribution of", lambda p: p.of),
    Column("gain", lambda p: "–" if p.difference is None else f"{p.difference:+.2f}", number=True),
    Column("95 %", lambda p: ends(p.low, p.high), number=True),
    Column("p", lambda p: chance(p.p), number=True),
    Column("% of total", lambda p: number(p.share, 0), number=True, empty="–"),
    Column("95 % of that", lambda p: ends(p.share_low, p.share_high, 0), number=True, empty="–"),
    Column("n", lambda p: f"{p.n:,}", number=True),
)

COPYING: tuple[Column[Copying], ...] = (
    Column("task", lambda c: c.task, shared=True),
    Column("protocol", lambda c: c.protocol, shared=True),
    Column("split", lambda c: c.split, shared=True),
    Column("model", lambda c: c.model),
    Column("shots", lambda c: c.shots, number=True),
    Column("seed", lambda c: str(c.seed), number=True, empty="0"),
    Column("copied %", lambda c: number(c.copied, 2), number=True),
    Column("95 %", lambda c: ends(c.low, c.high), number=True),
    Column("by chance %", lambda c: number(c.chance, 2), number=True),
    Column("correct answer among the examples, %", lambda c: number(c.known, 2), number=True),
    Column("n", lambda c: f"{c.n:,}", number=True),
)

LEGEND = (
    "Each contribution is the loss without it: labels or images shuffled among the demonstrations, blank "
    "images, a different order. Labels and images work together, so contributions overlap and need not add "
    "up. The gain that remains with shuffled labels is attributed to the format."
)
COPIES = (
    "copied: answers equal to a reply in the query's own demonstrations; by chance: equal to one in another "
    "query's; correct answer among the examples: queries with a demonstration that shows the correct answer."
)


def tables(parts: Sequence[Contribution], copies: Sequence[Copying]) -> RenderableType:
    """For a terminal."""
    from rich.console import Group
    from rich.text import Text

    shown: list[RenderableType] = []
    if parts:
        columns = formats.needed(PARTS, parts)
        table = formats.rich_table(
            columns, parts, section=lambda p: (p.task, p.model, p.seed, p.shots)
        )
        shown += [table, Text(LEGEND, style="dim")]
    if copies:
        columns_ = formats.needed(COPYING, copies)
        table = formats.rich_table(columns_, copies, section=lambda c: (c.task, c.model))
        shown += [table, Text(COPIES, style="dim")]
    return Group(*shown)


def render(parts: Sequence[Contribution], copies: Sequence[Copying], form: str) -> str:
    """As text. CSV holds one table: the parts, or copying where there are none."""

    def two(table: formats.Text, other: formats.Text | None = None) -> str:
        made = [table(formats.needed(PARTS, parts), parts)] if parts else []
        made += [(other or table)(formats.needed(COPYING, copies), copies)] if copies else []
        return "\n".join(made)

    forms = {
        "csv": lambda: (
            formats.csv_text(Contribution, parts) if parts else formats.csv_text(Copying, copies)
        ),
        "json": lambda: formats.json_text(
            {
                "parts": [fields.plain(part) for part in parts],
                "copying": [fields.plain(each) for each in copies],
            }
        ),
        "latex": lambda: two(
            partial(latex.table, label="demonstrations", notes=[LEGEND]),
            partial(latex.table, label="copying", notes=[COPIES]),
        ),
        "markdown": lambda: two(formats.markdown),
    }
    return formats.chosen(forms, form)
