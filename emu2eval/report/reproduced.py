"""How long a reproduction takes, and its outcome."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from emu2eval.engine.outlook import RunEstimate
from emu2eval.papers.rebuild import Rebuilt
from emu2eval.report import formats
from emu2eval.report.formats import Column, ends, number, signed
from emu2eval.report.paper import Number, numbers

if TYPE_CHECKING:
    from rich.console import RenderableType


def duration(seconds: float | None) -> str:
    """
    >>> duration(42), duration(5000), duration(200000), duration(None)
    ('42 s', '1 h 23 min', '2 d 8 h', '?')
    """
    if seconds is None:
        return "?"
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 100:
        return f"{minutes} min"
    if hours < 48:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{hours // 24} d {hours % 24} h"


_COSTS: tuple[Column[RunEstimate], ...] = (
    Column("task", lambda cost: cost.task),
    Column("split", lambda cost: cost.split),
    Column("shots", lambda cost: str(cost.shots), number=True),
    Column("requests", lambda cost: f"{cost.requests:,}", number=True),
    Column("answered", lambda cost: f"{cost.answered:,}", number=True),
    Column("s/request", lambda cost: number(cost.seconds, 3), number=True),
    Column("timed", lambda cost: f"{cost.timed:,}", number=True),
    Column("left", lambda cost: duration(cost.left), number=True),
)


def cost_table(costs: Sequence[RunEstimate]) -> RenderableType:
    """One line a run, and the sum."""
    from rich.console import Group
    from rich.text import Text

    known = [cost.left for cost in costs if cost.left is not None]
    left = f"about {duration(sum(known))} left"
    unknown = len(costs) - len(known)
    if unknown:
        left += f", plus {unknown} runs not timed yet"
    how = "s/request: mean over the run's stored answers, excluding model loading"
    return Group(formats.rich_table(_COSTS, costs), Text(left), Text(how, style="dim"))


_VERDICTS: tuple[Column[Number], ...] = (
    Column("column", lambda n: n.column),
    Column("shots", lambda n: n.shots, number=True),
    Column("published", lambda n: number(n.published, n.digits), number=True),
    Column("measured", lambda n: number(n.value, n.digits), number=True),
    Column("95 %", lambda n: ends(n.low, n.high, n.digits), number=True),
    Column(
        "difference",
        lambda n: "–" if n.difference is None else signed(n.difference, n.digits),
        number=True,
    ),
    Column("verdict", lambda n: n.verdict or ""),
    Column("reason", lambda n: "; ".join(n.why) if n.verdict == "not comparable" else "", empty=""),
)


def outcome(rebuilt: Rebuilt, model: str) -> list[Number]:
    """Every published number of the model, with what was measured, and without where nothing was."""
    listed = numbers(rebuilt)
    measured = {
        (n.column, n.shots): n for n in listed if n.source == "measured" and n.published is not None
    }
    own = {row.model for row in rebuilt.table.rows if model in (row.model, row.checkpoint)}
    found = []
    for n in listed:
        if n.source == "published" and n.model in own and n.value is not None:
            missing = Number(
                **{name: getattr(n, name) for name in ("table", "column", "task", "model", "group")},
                shots=n.shots, source="measured", value=None, low=None, high=None, n=None,
                split=n.split, protocol=n.protocol, metric=n.metric, variant=n.variant, judge=n.judge,
                published=n.value, difference=None, verdict="not measured", comparable=None, why=(),
                notes=(), run=None, digits=n.digits,
            )  # fmt: skip
            found.append(measured.get((n.column, n.shots), missing))
    return found


def outcome_table(found: Sequence[Number]) -> RenderableType:
    """One line a published number, and how many came out how."""
    from rich.console import Group
    from rich.text import Text

    counts: dict[str, int] = {}
    for number_ in found:
        counts[number_.verdict or ""] = counts.get(number_.verdict or "", 0) + 1
    summary = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    how = (
        "reproduced: the published number, as rounded, lies within the 95 % interval of the measured "
        "one, and both have the same setting"
    )
    table = formats.rich_table(formats.needed(_VERDICTS, found), found)
    return Group(table, Text(summary), Text(how, style="dim"))
