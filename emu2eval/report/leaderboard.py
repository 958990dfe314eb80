"""Leaderboards: one line a model, one column a task and number of shots, with what is best beyond doubt."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from emu2eval.compare.comparable import Measure
from emu2eval.errors import UnknownName
from emu2eval.exports import fields
from emu2eval.report import formats, latex
from emu2eval.report.formats import Column, number
from emu2eval.report.table import GROUPS, order
from emu2eval.types import Row, Shots, metric_label, protocol_label

BEST, SECOND = "①", "②"
Z = 1.959964
MARKED = (
    f"{BEST} and {SECOND}: best and second best in the column, marked only if the 95 % interval of the "
    "difference to every lower value excludes zero (treating runs as independent; if an error is unknown, "
    "if the intervals do not overlap). emu2eval compare pairs runs sample by sample, which detects smaller "
    "differences"
)
RANKED = "mean rank: over the columns that have a value for every model"


def arranged(rows: Sequence[Row], by: str | None = None, sort: str | None = None) -> list[Row]:
    """Rows in the order of the table, then by `sort` (`-` in front: falling), groups of `by` together.

    sort: the name of a column; `value` puts the best first. Raises UnknownName.
    """
    listed = order(rows)
    if sort is not None:
        falling, name = sort.startswith("-"), sort.removeprefix("-")
        keys = {"value", "n", "seconds", "unscored", "metric", *GROUPS}
        if name not in keys:
            raise UnknownName("column to sort by", name, keys, where="--sort")
        listed.sort(key=lambda row: _key(row, name), reverse=falling)
    if by is not None:
        if by not in GROUPS:
            raise UnknownName("grouping", by, GROUPS, where="--by")
        listed.sort(key=lambda row: _key(row, by))
    return listed


def _key(row: Row, name: str) -> tuple[object, ...]:
    if name == "value":
        return _worth(row), ""
    if name == "shots":
        return row.shots.rank, "" if row.ablation == "none" else row.ablation
    if name == "metric":
        return 0.0, row.label
    if name in GROUPS:
        return 0.0, GROUPS[name](row)
    return float(getattr(row, name)), ""


def _worth(row: Row) -> float:
    """Falls as the value gets better."""
    if row.value is None:
        return math.inf
    return -row.value if row.higher_is_better else row.value


class BoardColumn(NamedTuple):
    """What a column of a leaderboard is of; only rows of one column are compared."""

    measure: Measure
    shots: Shots
    ablation: str

    @classmethod
    def of(cls, row: Row) -> BoardColumn:
        return cls(Measure.of(row), row.shots, row.ablation)

    @property
    def task(self) -> str:
        return self.measure.task

    @property
    def setting(self) -> str:
        """Shots as tables show them."""
        return str(self.shots) if self.ablation == "none" else f"{self.shots} ({self.ablation})"


@dataclass
class Board:
    """One line: a model's rows by column. marks: BEST or SECOND; rank: its mean, None where no column is
    shared by all. passed_over: runs of a column that another run of the model stands for.
    """

    model: str
    rows: dict[BoardColumn, Row] = field(default_factory=dict)
    marks: dict[BoardColumn, str] = field(default_factory=dict)
    rank: float | None = None
    passed_over: list[str] = field(default_factory=list)

    def take(self, row: Row) -> None:
        """Keeps the row, unless one of its column with as many queries is there."""
        place = BoardColumn.of(row)
        kept = self.rows.get(place)
        if kept is None or row.n > kept.n:
            self.rows[place] = row
        if kept is not None:
            self.passed_over.append(kept.run if row.n > kept.n else row.run)


def board(rows: Sequence[Row], sort: str | None = None) -> tuple[list[BoardColumn], list[Board]]:
    """The headline of every run, by model and column; of several runs for one, the one with most queries.

    sort: `model`, `rank`, or the name of a task, which sorts by its first column; `-` in front: falling.
    Raises UnknownName.
    """
    headlines = [row for row in _headlines(order(rows)) if row.value is not None]
    places = _places(headlines)
    lines: dict[str, Board] = {}
    for row in headlines:
        lines.setdefault(row.model, Board(row.model)).take(row)
    for place in places:
        for model, mark in marks({m: b.rows[place] for m, b in lines.items() if place in b.rows}):
            lines[model].marks[place] = mark
    shared = [place for place in places if all(place in line.rows for line in lines.values())]
    if len(lines) > 1 and shared:
        ranks = [_ranks({m: b.rows[place] for m, b in lines.items()}) for place in shared]
        for model, line in lines.items():
            line.rank = math.fsum(rank[model] for rank in ranks) / len(ranks)
    return places, _sorted(list(lines.values()), places, sort)


def _places(rows: Sequence[Row]) -> list[BoardColumn]:
    """The columns of rows: measures as they come first, each by rising shots, whichever model has which."""
    places = list(dict.fromkeys(map(BoardColumn.of, rows)))
    first = {place.measure: at for at, place in reversed(list(enumerate(places)))}
    return sorted(places, key=lambda p: (first[p.measure], p.shots.rank, p.ablation != "none"))


def _headlines(rows: Sequence[Row]) -> list[Row]:
    """The first row of each run that is neither a sub-score nor a further metric."""
    seen: set[str] = set()
    out = []
    for row in rows:
        if row.group is None and row.run not in seen:
            seen.add(row.run)
            out.append(row)
    return out


def marks(rows: Mapping[str, Row]) -> list[tuple[str, str]]:
    """(model, mark) of the best and of the second best, where each is apart from all below it."""
    ranked = sorted(rows.items(), key=lambda item: _worth(item[1]))
    found = []
    for place, mark in enumerate((BEST, SECOND)):
        below = ranked[place + 1 :]
        if not below or not all(apart(ranked[place][1], row) for _, row in below):
            break
        found.append((ranked[place][0], mark))
    return found


def apart(one: Row, other: Row) -> bool:
    """Whether the 95 % interval of their difference excludes zero, the two taken to be independent."""
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
    keys = {model: _worth(row) for model, row in rows.items()}
    listed = sorted(keys.values())
    return {
        model: listed.index(key) + 1 + (listed.count(key) - 1) / 2 for model, key in keys.items()
    }


def _sorted(lines: list[Board], places: Sequence[BoardColumn], sort: str | None) -> list[Board]:
    name = (sort or "rank").removeprefix("-")
    first = next((place for place in places if place.task == name), None)
    if name not in ("model", "rank") and first is None:
        raise UnknownName(
            "key to sort by", name, ["model", "rank", *{p.task for p in places}], where="--sort"
        )

    def key(line: Board) -> tuple[float, str]:
        if first is not None:
            row = line.rows.get(first)
            return (_worth(row) if row else math.inf, line.model)
        if name == "model" or line.rank is None:
            return (0.0, line.model)
        return (line.rank, line.model)

    return sorted(lines, key=key, reverse=(sort or "").startswith("-"))


_NAMES: tuple[Callable[[Measure], str], ...] = (
    lambda m: f"v{m.version}",
    lambda m: m.split,
    lambda m: protocol_label(m.protocol, m.imported),
    lambda m: metric_label(m.metric, m.variant, m.judge),
    lambda m: m.encoder or "",
)
"""Parts of a column's name that are left out where all columns of a task share them."""


def columns(places: Sequence[BoardColumn], lines: Sequence[Board]) -> list[Column[Board]]:
    """model, each column, mean rank."""
    differing = [
        name
        for name in _NAMES
        if len({(p.task, name(p.measure)) for p in places}) > len({p.task for p in places})
    ]
    made: list[Column[Board]] = [Column("model", lambda line: line.model)]
    for place in places:
        more = filter(None, (name(place.measure) for name in differing))
        over = " ".join([place.task, *more])
        title = f"{over} @{place.setting}"
        made.append(
            Column(title, partial(cell, place), number=True, over=over, short=place.setting)
        )
    made.append(Column("mean rank", lambda line: number(line.rank, 1), number=True, empty="–"))
    return formats.needed(made, lines)


def cell(place: BoardColumn, line: Board) -> str:
    row = line.rows.get(place)
    if row is None:
        return "–"
    digits = row.digits - 1  # many columns stand side by side
    error = f" ±{row.stderr:.{digits}f}" if row.stderr is not None else ""
    part = "" if row.complete else "†"
    failed = f" ({row.unscored:,} unscored)" if row.unscored else ""
    failed += f" ({row.hidden:,} hidden)" if row.hidden else ""
    return f"{number(row.value, digits)}{error}{part}{failed} {line.marks.get(place, '')}".rstrip()


def _best(
    places: Mapping[str, BoardColumn], lines: Sequence[Board], column: Column[Board], line: Board
) -> bool:
    """Whether the line's value is the best of the column, of two or more."""
    place = places.get(column.name)
    if place is None or place not in line.rows:
        return False
    worth = [_worth(each.rows[place]) for each in lines if place in each.rows]
    return min(worth) < max(worth) and _worth(line.rows[place]) == min(worth)


def below(places: Sequence[BoardColumn], lines: Sequence[Board]) -> list[str]:
    """What stands under a leaderboard."""
    parts = any(not row.complete for line in lines for row in line.rows.values())
    ranked = any(line.rank is not None for line in lines)
    said = ["value ± standard error; @ the number of demonstrations", *legend(lines, parts, ranked)]
    for task in dict.fromkeys(place.task for place in places):
        own = dict.fromkeys(_said(place.measure) for place in places if place.task == task)
        said.append(f"{task}: {'; '.join(own)}")
    return said


def legend(lines: Sequence[Board], parts: bool, ranked: bool) -> list[str]:
    """What the marks that are there mean, and what is not shown. parts: whether some cells carry a dagger;
    ranked: whether mean ranks are shown."""
    marked = any(line.marks for line in lines)
    meant = ((MARKED, marked), (RANKED, ranked), ("† a subset of the split", parts))
    said = [text for text, there in meant if there]
    passed_over = [name for line in lines for name in line.passed_over]
    if passed_over:
        said.append(
            "not shown, because another run of the same model fills the cell: "
            + ", ".join(dict.fromkeys(passed_over))
        )
    return said


def _said(measure: Measure) -> str:
    protocol = protocol_label(measure.protocol, measure.imported)
    metric = metric_label(measure.metric, measure.variant, measure.judge)
    encoder = f" by {measure.encoder}" if measure.encoder else ""
    return f"split {measure.split}, protocol {protocol}, {metric}{encoder}"


def render_board(rows: Sequence[Row], form: str, sort: str | None = None) -> str:
    """The leaderboard as text; as CSV and JSON one object a number. Raises UnknownName."""
    places, lines = board(rows, sort)
    shown = columns(places, lines)
    flat = [
        {**fields.plain(row), "mark": line.marks.get(place), "mean_rank": line.rank}
        for line in lines
        for place, row in line.rows.items()
    ]
    notes = below(places, lines)
    forms = {
        "csv": lambda: formats.csv_rows(flat),
        "json": lambda: formats.json_text(flat),
        "latex": lambda: latex.table(
            shown,
            lines,
            label="leaderboard",
            caption="value ± standard error by task and number of demonstrations; bold: best in the column",
            notes=notes[1:],
            split=True,
            best=partial(
                _best, dict(zip((c.name for c in shown[1:]), places, strict=False)), lines
            ),
        ),
        "markdown": lambda: formats.markdown(shown, lines) + "\n" + formats.listed(notes),
    }
    return formats.chosen(forms, form)
