"""`emu2eval table --cost`: what stored runs really used of a server, the model's part and the judges'."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial, reduce
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from emu2eval.report import formats
from emu2eval.report.formats import Column
from emu2eval.runs.record import JUDGE, read_judge, read_record
from emu2eval.types import Used

if TYPE_CHECKING:
    from rich.console import RenderableType


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """What one run took of one server; the fields are those of `Used`. role: "model" or "judge"."""

    run: str
    name: str
    role: str
    requests: int
    uncounted: int
    tokens_in: int
    tokens_out: int
    cached: int
    of_images: int
    of_thought: int
    money: float | None

    @classmethod
    def of(cls, run: str, name: str, role: str, used: Used) -> Spent:
        return cls(run=run, name=name, role=role, **msgspec.structs.asdict(used))


def spent_of(folder: Path) -> list[Spent]:
    """The run's model, then its judges, as far as they were asked over a server. Raises StoreError."""
    record = read_record(folder)
    known = [("model", record.model.name, record.spent)]
    for path in sorted(folder.glob(f"judge/*/{JUDGE}")):
        judge = read_judge(path.parent)
        known.append(("judge", judge.model.name, judge.spent))
    return [Spent.of(folder.name, name, role, used) for role, name, used in known if used]


def _money(value: float | None) -> str:
    return "–" if value is None else f"{value:,.4f}"


COLUMNS: tuple[Column[Spent], ...] = (
    Column("run", lambda each: each.run),
    Column("model", lambda each: each.name),
    Column("role", lambda each: each.role, empty="model"),
    Column("requests", lambda each: f"{each.requests:,}", number=True),
    Column("uncounted", lambda each: f"{each.uncounted:,}", number=True, empty="0", warns=True),
    Column("input tokens", lambda each: f"{each.tokens_in:,}", number=True),
    Column("cached", lambda each: f"{each.cached:,}", number=True, empty="0"),
    Column("image tokens", lambda each: f"{each.of_images:,}", number=True, empty="0"),
    Column("output tokens", lambda each: f"{each.tokens_out:,}", number=True),
    Column("reasoning tokens", lambda each: f"{each.of_thought:,}", number=True, empty="0"),
    Column("cost", lambda each: _money(each.money), number=True, empty="–"),
)


def _with_total(found: Sequence[Spent]) -> Iterator[Spent]:
    yield from found
    if len(found) > 1:
        names = Used.__struct_fields__
        parts = [Used(**{name: getattr(each, name) for name in names}) for each in found]
        yield Spent.of("all", "", "model", reduce(add, parts))


def rich_spent(found: Sequence[Spent]) -> RenderableType:
    shown = list(_with_total(found))
    return formats.rich_table(
        formats.needed(COLUMNS, shown), shown, section=lambda each: each.run == "all"
    )


def render(found: Sequence[Spent], form: str) -> str:
    """As text. Raises UnknownName for a format that does not exist."""
    shown = list(_with_total(found))
    from emu2eval.report import latex

    return formats.chosen(
        {
            "csv": lambda: formats.csv_text(Spent, found),
            "json": lambda: formats.json_items(found),
            "markdown": partial(formats.markdown, formats.needed(COLUMNS, shown), shown),
            "latex": lambda: latex.table(formats.needed(COLUMNS, shown), shown, label="cost"),
        },
        form,
    )
