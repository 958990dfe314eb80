"""Models down, shots across: one small table a measure, and a sentence that says what it shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from emu2eval.compare.comparable import Measure
from emu2eval.report import formats
from emu2eval.report.formats import Column, number
from emu2eval.report.leaderboard import BEST, SECOND, Board, BoardColumn, apart, board, cell, legend
from emu2eval.report.notes import notes
from emu2eval.types import Row, metric_label, protocol_label

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True)
class MeasureBlock:
    """lines: the models that have a number in one of the columns, which are of one measure."""

    measure: Measure
    columns: list[BoardColumn]
    lines: list[Board]

    @property
    def rows(self) -> list[Row]:
        return [line.rows[c] for line in self.lines for c in self.columns if c in line.rows]


@dataclass(frozen=True)
class BlockFinding:
    """What a block shows. leader: the best at `most`, the last column that most models share; ahead: of how
    many others beyond chance, the runs taken to be independent. gainer: the model that rises most from the
    first column of plain demonstrations to the last, beyond chance.
    """

    leader: Row | None
    ahead: int
    others: int
    gainer: tuple[Row, Row] | None
    gains: int


def blocks(rows: Sequence[Row], sort: str | None = None) -> list[MeasureBlock]:
    """One a measure, in the order of the table. Raises UnknownName as `board`."""
    places, lines = board(rows, sort)
    found: dict[Measure, list[BoardColumn]] = {}
    for place in places:
        found.setdefault(place.measure, []).append(place)
    return [
        MeasureBlock(
            measure, own, [line for line in lines if any(place in line.rows for place in own)]
        )
        for measure, own in found.items()
    ]


def fits(rows: Sequence[Row]) -> bool:
    """Whether rows are better read as blocks: some measure has several models and several shots."""
    heads = [row for row in rows if row.group is None and row.value is not None]
    found: dict[Measure, list[Row]] = {}
    for row in heads:
        found.setdefault(Measure.of(row), []).append(row)
    return any(
        len({row.model for row in own}) > 1 and len({row.setting for row in own}) > 1
        for own in found.values()
    ) and len({row.run for row in heads}) == len(heads)


def shown(block: MeasureBlock) -> BlockFinding:
    plain = [c for c in block.columns if c.ablation == "none"] or block.columns
    most = max(plain, key=lambda c: (sum(c in line.rows for line in block.lines), c.shots.rank))
    there = sorted(
        (line.rows[most] for line in block.lines if most in line.rows), key=_worth, reverse=True
    )
    leader, others = (there[0], there[1:]) if len(there) > 1 else (None, [])
    gains = []
    for line in block.lines:
        own = [line.rows[c] for c in plain if c in line.rows]
        if len(own) > 1 and _worth(own[-1]) > _worth(own[0]) and apart(own[0], own[-1]):
            gains.append((own[0], own[-1]))
    return BlockFinding(
        leader,
        sum(apart(leader, other) for other in others) if leader else 0,
        len(others),
        max(gains, key=lambda g: abs((g[1].value or 0) - (g[0].value or 0)), default=None),
        len(gains),
    )


def sentence(block: MeasureBlock) -> str | None:
    """None where there is nothing to compare."""
    found = shown(block)
    said = []
    if found.leader is not None:
        at = f"at {found.leader.setting} shots"
        whom = _whom(found.ahead, found.others)
        said.append(
            f"{found.leader.model} is significantly ahead of {whom} {at}"
            if whom
            else f"no model is significantly ahead of the next best {at}"
        )
    if found.gainer is not None:
        first, last = found.gainer
        how = "gains"
        if len(block.lines) > 1:
            how = "is the only one to gain" if found.gains == 1 else "gains most"
        again = found.ahead and found.leader is not None and found.leader.model == last.model
        who = "it" if again else last.model
        said.append(
            f"{who} {how} from more examples: {_value(first)} at {first.setting} shots, {_value(last)} at "
            f"{last.setting}"
        )
    elif len(block.columns) > 1:
        said.append("no model gains significantly from more examples")
    text = "; ".join(said)
    return f"{text[0].upper() if text.startswith('no ') else text[0]}{text[1:]}." if text else None


def _whom(ahead: int, others: int) -> str | None:
    if not ahead:
        return None
    if ahead < others:
        return f"{ahead} of {others} other models"
    return {1: "the other model", 2: "both other models"}.get(others, f"all {others} other models")


def _worth(row: Row) -> float:
    value = row.value or 0.0
    return value if row.higher_is_better else -value


def _value(row: Row) -> str:
    return number(row.value, row.digits - 1)


@dataclass(frozen=True)
class _Line:
    name: str
    cells: dict[BoardColumn, str]


def tables(found: Sequence[MeasureBlock], *, marks: bool = False) -> RenderableType:
    """For a terminal: the blocks with their sentences; below each, the notes of its rows.

    marks: of the best and second best, for whoever says below what they mean.
    """
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = []
    for place, block in enumerate(found):
        parts += [Text("")] if place else []
        listed = list(_lines(block, marks))
        columns: list[Column[_Line]] = [Column("shots", lambda line: line.name)]
        columns += [Column(c.setting, partial(_cell, c), number=True) for c in block.columns]
        table = formats.rich_table(
            columns, listed, title=title(block), section=lambda line: line.name == _GUESSING
        )
        parts.append(table)
        said = sentence(block)
        parts += [Text(said)] if said else []
        parts += [Text(note, style="dim") for note in _noted(block)]
    return Group(*parts)


_GUESSING = "chance"


def _cell(column: BoardColumn, line: _Line) -> str:
    return line.cells.get(column, "–")


def _lines(block: MeasureBlock, marks: bool) -> Iterator[_Line]:
    """A model each; last what guessing gives, where that is known."""
    unsaid = "" if marks else f"{BEST}{SECOND}"
    # What all rows are a part of stands in the title.
    unsaid += "†" if _part(block) is not None else ""
    for line in block.lines:
        cells = {c: cell(c, line) for c in block.columns}
        yield _Line(line.model, {c: _without(unsaid, text) for c, text in cells.items()})
    chance = {
        c: number(line.rows[c].chance, 1)
        for c in block.columns
        for line in block.lines
        if c in line.rows and line.rows[c].chance is not None
    }
    if chance:
        yield _Line(_GUESSING, chance)


def _without(signs: str, text: str) -> str:
    return "".join(sign for sign in text if sign not in signs).rstrip()


def _part(block: MeasureBlock) -> tuple[int, int] | None:
    """How many queries of how many, where all rows have the same part of the split."""
    sizes = {(row.covered, row.queries) for row in block.rows}
    (size,) = sizes if len(sizes) == 1 else (None,)
    return size if size is not None and size[1] is not None and size[0] < size[1] else None


def _noted(block: MeasureBlock) -> Iterator[str]:
    """Each note once, with whose numbers it is about where it is not about all; the size stands above."""
    about: dict[str, list[str]] = {}
    for row in block.rows:
        plain = msgspec.structs.replace(row, covered=row.queries) if _part(block) else row
        for note in notes(plain):
            about.setdefault(note, []).append(f"{row.model} at {row.setting} shots")
    for note, places in about.items():
        whose = "" if len(places) == len(block.rows) else f"{', '.join(places)}: "
        yield f"{whose}{note}"


def title(block: MeasureBlock) -> str:
    """What all numbers of a block are of, and how many there are."""
    m = block.measure
    encoder = f" by {m.encoder}" if m.encoder else ""
    parts = [
        m.task + (f" v{m.version}" if m.version != 1 else ""),
        f"{metric_label(m.metric, m.variant, m.judge)}{encoder} ± s.e.",
        f"split {m.split}",
        f"protocol {protocol_label(m.protocol, m.imported)}",
    ]
    part = _part(block)
    sizes = sorted({row.n for row in block.rows})
    if part is not None:
        parts.append(f"{part[0]:,} of {part[1]:,} queries")
    else:
        parts.append(f"n {sizes[0]:,}" + (f" to {sizes[-1]:,}" if len(sizes) > 1 else ""))
    ceilings = {row.ceiling for row in block.rows}
    if len(ceilings) == 1 and None not in ceilings:
        parts.append(f"ceiling {number(ceilings.pop(), 1)}")
    return " · ".join(parts)


def rich_board(rows: Sequence[Row], sort: str | None = None) -> RenderableType:
    """The leaderboard for a terminal: a block a measure, then mean ranks and what the marks mean."""
    from rich.console import Group
    from rich.text import Text

    places, lines = board(rows, sort)
    found = blocks(rows, sort)
    parts: list[RenderableType] = [tables(found, marks=True)]
    ranked = sorted((line.rank, line.model) for line in lines if line.rank is not None)
    if len({place.measure for place in places}) < 2:
        ranked = []  # the block says it
    if ranked:
        listed = ", ".join(f"{model} {rank:.1f}" for rank, model in ranked)
        parts += [Text(""), Text(f"mean rank: {listed}")]
    parts_ = any(not row.complete and _part(block) is None for block in found for row in block.rows)
    said = legend(lines, parts_, bool(ranked))
    return Group(*parts, *(Text(line, style="dim") for line in said))
