"""A run under every named rule, as tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from emu2eval.compare.explain import Explained, Explanation, Flipped
from emu2eval.exports import fields
from emu2eval.report import formats, latex
from emu2eval.report.formats import Column, ends, number

if TYPE_CHECKING:
    from rich.console import RenderableType


def _signed(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:+.{digits}f}"


WAYS: tuple[Column[Explanation], ...] = (
    Column("task", lambda w: w.task, shared=True),
    Column("model", lambda w: w.model, shared=True),
    Column("shots", lambda w: w.shots, shared=True),
    Column("", lambda w: "closest" if w.nearest else "this run" if w.own else ""),
    Column("rule", lambda w: w.rule),
    Column("clean-up", lambda w: ", ".join(w.clean) or "none"),
    Column("metric", lambda w: w.metric, shared=True),
    Column("value", lambda w: number(w.value, w.digits), number=True),
    Column("95 %", lambda w: ends(w.low, w.high, w.digits), number=True),
    Column("vs. this run", lambda w: _signed(w.difference, w.digits), number=True),
    Column("changed", lambda w: "–" if w.changed is None else f"{w.changed:,}", number=True),
    Column("published", lambda w: number(w.published, w.digits), number=True, empty="–"),
    Column("vs. published", lambda w: _signed(w.off, w.digits), number=True, empty="–"),
    Column("n", lambda w: f"{w.n:,}", number=True),
    Column("unscored", lambda w: f"{w.unscored:,}", number=True, empty="0", warns=True),
    Column("not applicable", lambda w: w.why or "", empty=""),
)

EXAMPLES: tuple[Column[tuple[Explanation, Flipped]], ...] = (
    Column("rule", lambda e: e[0].rule),
    Column("clean-up", lambda e: ", ".join(e[0].clean) or "none"),
    Column("sample", lambda e: e[1].id),
    Column("reply", lambda e: repr(e[1].reply)),
    Column("references", lambda e: ", ".join(e[1].references)),
    Column("this run reads", lambda e: repr(e[1].was)),
    Column("score", lambda e: _value(e[1].was_value), number=True),
    Column("other reads", lambda e: repr(e[1].became)),
    Column("other score", lambda e: _value(e[1].became_value), number=True),
)

LEGEND = (
    "changed: replies whose score differs from this run's. No requests were sent and no stored file was "
    "changed; to adopt a way of scoring: emu2eval score RUN --set …"
)


def _value(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def sentences(made: Explained) -> Iterator[str]:
    """What comes nearest to the published number, and what else sets the run apart."""
    against, nearest = made.against, made.nearest
    if against is None:
        return
    where = f"{against.paper}, table {against.table}, {against.column}"
    cell = f"{against.model} at {against.shots} shots: {against.value:.{against.digits}f} ({where})"
    if nearest is None:
        yield f"{cell}; no way of scoring yields that metric"
    else:
        how = f"{nearest.rule}, clean-up {', '.join(nearest.clean) or 'none'}"
        off = _signed(nearest.off, nearest.digits)
        yield f"{cell}; closest: {how}: {number(nearest.value, nearest.digits)} ({off})"
    if not against.differs:
        yield "no other known differences from the published run"
    for text in against.differs:
        yield f"other difference: {text}"


def _shown(ways: Sequence[Explanation]) -> list[tuple[Explanation, Flipped]]:
    """The examples of the ways that change something, each set of changed replies once."""
    seen: set[tuple[Flipped, ...]] = set()
    found = []
    for way in ways:
        if way.examples and way.examples not in seen:
            seen.add(way.examples)
            found += [(way, example) for example in way.examples]
    return found


def tables(made: Explained) -> RenderableType:
    """For a terminal."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [formats.rich_table(formats.needed(WAYS, made.ways), made.ways)]
    parts += [Text(text) for text in sentences(made)]
    parts.append(Text(LEGEND, style="dim"))
    shown = _shown(made.ways)
    if shown:
        parts.append(
            formats.rich_table(
                EXAMPLES,
                shown,
                section=lambda e: (e[0].rule, e[0].clean),
                title="replies that differ",
            )
        )
    return Group(*parts)


def render(made: Explained, form: str) -> str:
    """As text; CSV holds the ways alone."""
    shown = _shown(made.ways)

    def two(table: formats.Text, below: str = "", other: formats.Text | None = None) -> str:
        text = table(formats.needed(WAYS, made.ways), made.ways)
        return text + below + ("\n" + (other or table)(EXAMPLES, shown) if shown else "")

    said = list(sentences(made))
    forms = {
        "csv": lambda: formats.csv_text(Explanation, made.ways),
        "json": lambda: formats.json_text(fields.plain(made)),
        "latex": lambda: two(
            partial(latex.table, label="ways of scoring", notes=said),
            other=partial(latex.table, label="replies", caption="Replies that differ"),
        ),
        "markdown": lambda: two(formats.markdown, "\n" + formats.listed(said) if said else ""),
    }
    return formats.chosen(forms, form)
