"""Leaderboards: one line a model, one column a task and number of shots, with what is best beyond doubt."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from emu2eval.errors import UnknownName
from emu2eval.report import formats
from emu2eval.report.formats import Column, number
from emu2eval.report.table import COLUMNS, order
from emu2eval.types import Row

if TYPE_CHECKING:
    from rich.console import RenderableType

BEST, SECOND = "①", "②"
Z = 1.959964
GROUPS = ("task", "model", "shots", "protocol", "split")

BELOW = (
    f"{BEST} and {SECOND}: best and second best of the column, marked only where the 95 % interval of the "
    "difference to every one below excludes zero (the runs taken for independent; where an error is not "
    "known, where the intervals do not overlap). emu2eval compare pairs runs sample by sample and tells more",
    "mean rank: over the columns in which every model has a number",
)


def arranged(rows: Sequence[Row], by: str | None = None, sort: str | None = None) -> list[Row]:
    """Rows in the order of the table, then by `sort` (`-` in front: falling), groups of `by` together.

    sort: the name of a column; `value` puts the best first. Raises UnknownName.
    """
    listed = order(rows)
    if sort is not None:
        falling, name = sort.startswith("-"), sort.removeprefix("-")
        keys = {"value", "n", "seconds", "unscored", *GROUPS, "metric"}
        if name not in keys:
            raise UnknownName("column to sort by", name, keys, where="--sort")
        listed.sort(key=lambda row: _key(row, name), reverse=falling)
    if by is not None:
        if by not in GROUPS:
            raise UnknownName("grouping", by, GROUPS, where="--by")
        listed.sort(key=lambda row: _key(row, by))
    return listed


def _key(row: Row, name: str) -> tuple[float, str]:
    if name == "value":
        if row.value is None:
            return (math.inf, "")
        return (-row.value if row.higher_is_better else row.value, "")
    if name == "shots":
        count, _, more = row.shots.partition(" ")
        return (float(count.rstrip("*")) + 0.5 * count.endswith("*"), more)
    value = getattr(row, name)
    return (float(value), "") if isinstance(value, int | float) else (0.0, str(value))


@dataclass(frozen=True)
class Place:
    """What a column of a leaderboard is of; only rows of one place are compared."""

    task: str
    split: str
    protocol: str
    metric: str
    shots: str

    @classmethod
    def of(cls, row: Row) -> Place:
        return cls(row.task, row.split, row.protocol, row.metric, row.shots)


@dataclass
class Board:
    """One line: a model's rows by place. marks: BEST or SECOND; rank: its mean, None where none is shared."""

    model: str
    rows: dict[Place, Row] = field(default_factory=dict)
    marks: dict[Place, str] = field(default_factory=dict)
    rank: float | None = None


def board(rows: Sequence[Row], sort: str | None = None) -> tuple[list[Place], list[Board]]:
    """The headline of every run, by model and place; of several runs of one place the one with most queries.

    sort: `model`, `rank`, or the name of a task, which sorts by its first column; `-` in front: falling.
    Raises UnknownName.
    """
    headlines = [row for row in _headlines(order(rows)) if row.value is not None]
    places = list(dict.fromkeys(map(Place.of, headlines)))
    lines: dict[str, Board] = {}
    for row in headlines:
        line = lines.setdefault(row.model, Board(row.model))
        kept = line.rows.get(Place.of(row))
        if kept is None or row.n > kept.n:
            line.rows[Place.of(row)] = row
    for place in places:
        for model, mark in marks({m: b.rows[place] for m, b in lines.items() if place in b.rows}):
            lines[model].marks[place] = mark
    shared = [place for place in places if all(place in line.rows for line in lines.values())]
    if len(lines) > 1 and shared:
        ranks = [_ranks({m: b.rows[place] for m, b in lines.items()}) for place in shared]
        for model, line in lines.items():
            line.rank = math.fsum(rank[model] for rank in ranks) / len(ranks)
    return places, _sorted(list(lines.values()), places, sort)


def _headlines(rows: Sequence[Row]) -> list[Row]:
    """The first row of each run that is neither a sub-score nor a further metric."""
    seen: set[tuple[object, ...]] = set()
    out = []
    for row in rows:
        key = (row.run, row.task, row.model, row.shots, row.protocol, row.split)
        if row.group is None and (row.run is None or key not in seen):
            seen.add(key)
            out.append(row)
    return out


def marks(rows: Mapping[str, Row]) -> list[tuple[str, str]]:
    """(model, mark) of the best and, behind it, the second best, where each is apart from all below it."""
    ranked = sorted(rows.items(), key=lambda item: _key(item[1], "value"))
    found = []
    for place, mark in enumerate((BEST, SECOND)):
        below = ranked[place + 1 :]
        if not below or not all(apart(ranked[place][1], row) for _, row in below):
            break
        found.append((ranked[place][0], mark))
    return found


def apart(one: Row, other: Row) -> bool:
    """Whether the 95 % interval of their difference excludes zero, the two taken for independent."""
    if one.value is None or other.value is None:
        return False
    if one.stderr is not None and other.stderr is not None:
        return abs(one.value - other.value) > Z * math.hypot(one.stderr, other.stderr)
    ends = (one.low, one.high, other.low, other.high)
    if any(end is None for end in ends):
        return False
    (low, high), (least, most) = (one.low, one.high), (other.low, other.high)
    return bool(low > most or high < least)  # type: ignore[operator]


def _ranks(rows: Mapping[str, Row]) -> dict[str, float]:
    """Ranks from 1; equal values share the mean of theirs."""
    keys = {model: _key(row, "value")[0] for model, row in rows.items()}
    listed = sorted(keys.values())
    return {
        model: listed.index(key) + 1 + (listed.count(key) - 1) / 2 for model, key in keys.items()
    }


def _sorted(lines: list[Board], places: Sequence[Place], sort: str | None) -> list[Board]:
    name = (sort or "rank").removeprefix("-")
    first = next((place for place in places if place.task == name), None)
    if name not in ("model", "rank") and first is None:
        raise UnknownName(
            "key to sort by", name, ["model", "rank", *{p.task for p in places}], where="--sort"
        )

    def key(line: Board) -> tuple[float, str]:
        if first is not None:
            row = line.rows.get(first)
            return (_key(row, "value")[0] if row else math.inf, line.model)
        if name == "model" or line.rank is None:
            return (0.0, line.model)
        return (line.rank, line.model)

    return sorted(lines, key=key, reverse=(sort or "").startswith("-"))


def columns(places: Sequence[Place], lines: Sequence[Board]) -> list[Column[Board]]:
    """model, each place, mean rank. What all places share is left out of their names."""
    parts = ("split", "protocol", "metric")
    differing = [
        part
        for part in parts
        if any(
            len({getattr(p, part) for p in places if p.task == task}) > 1
            for task in {p.task for p in places}
        )
    ]
    made: list[Column[Board]] = [Column("model", lambda line: line.model)]
    for place in places:
        more = [getattr(place, part) for part in differing]
        name = " ".join([place.task, *more, f"@{place.shots}"])
        made.append(Column(name, partial(_cell, place), number=True))
    made.append(Column("mean rank", lambda line: number(line.rank, 1), number=True, empty="–"))
    return formats.needed(made, lines)


def _cell(place: Place, line: Board) -> str:
    row = line.rows.get(place)
    if row is None:
        return "–"
    digits = row.digits - 1  # many columns stand side by side
    error = f" ±{row.stderr:.{digits}f}" if row.stderr is not None else ""
    part = "" if row.complete else "†"
    failed = f" ({row.unscored:,} unscored)" if row.unscored else ""
    return f"{number(row.value, digits)}{error}{part}{failed} {line.marks.get(place, '')}".rstrip()


def below(places: Sequence[Place], lines: Sequence[Board]) -> list[str]:
    """What stands under a leaderboard."""
    said = ["value ± standard error; @ the number of demonstrations", *BELOW]
    if any(not row.complete for line in lines for row in line.rows.values()):
        said.append("† a subset of the split")
    for task in dict.fromkeys(place.task for place in places):
        of = dict.fromkeys(
            f"split {p.split}, protocol {p.protocol}, {p.metric}" for p in places if p.task == task
        )
        said.append(f"{task}: {'; '.join(of)}")
    return said


def rich_board(rows: Sequence[Row], sort: str | None = None) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    places, lines = board(rows, sort)
    table = formats.rich_table(columns(places, lines), lines)
    return Group(table, *(Text(line, style="dim") for line in below(places, lines)))


def render_board(rows: Sequence[Row], form: str, sort: str | None = None) -> str:
    """The leaderboard as text; as CSV and JSON one object a number. Raises UnknownName."""
    places, lines = board(rows, sort)
    shown = columns(places, lines)
    flat = [
        {**_fields(row), "mark": line.marks.get(place), "mean_rank": line.rank}
        for line in lines
        for place, row in line.rows.items()
    ]
    notes = below(places, lines)
    forms = {
        "csv": lambda: formats.csv_rows(flat),
        "json": lambda: formats.json_text(flat),
        "latex": lambda: formats.latex(shown, lines) + formats.latex_notes(notes),
        "markdown": lambda: formats.markdown(shown, lines) + "\n" + formats.listed(notes),
    }
    return formats.chosen(forms, form)


def _fields(row: Row) -> dict[str, object]:
    names = [column.name for column in COLUMNS if hasattr(row, column.name)]
    return {**{name: getattr(row, name) for name in names}, "stderr": row.stderr,
            "low": row.low, "high": row.high, "run": row.run}  # fmt: skip
