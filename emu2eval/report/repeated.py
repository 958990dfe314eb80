"""Repeated reference runs, as a table."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from emu2eval.doctor.reference import TOLERANCE, Repeated

EXAMPLES = 5


def repeated_table(results: Sequence[Repeated]) -> RenderableType:
    """One line a reference, then the first answers that differ."""
    table = Table(header_style="bold")
    for name in ("reference", "value before", "now", "answers", "differ", ""):
        table.add_column(name, justify="left" if name in ("reference", "") else "right")
    shown: list[RenderableType] = [table]
    for result in results:
        mark = Text("ok", "green") if result.agrees else Text("differs", "bold red")
        table.add_row(
            Text(result.name),
            "–" if result.before is None else f"{result.before:.2f}",
            "–" if result.now is None else f"{result.now:.2f}",
            f"{result.compared:,}",
            f"{len(result.differing):,}",
            mark,
        )
        for answer in result.differing[:EXAMPLES]:
            where = "".join(
                f", {name} {number}"
                for name, number in (("trial", answer.trial), ("take", answer.take))
                if number
            )
            shown.append(
                Text(
                    f"{result.name}: {answer.id}{where}: {answer.before!r} before, {answer.now!r} now"
                )
            )
    shown.append(Text(f"up to one answer or {TOLERANCE:.1%} may differ", style="dim"))
    return Group(*shown)
