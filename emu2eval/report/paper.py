"""A paper's tables with measured numbers, as rich, Markdown, CSV, JSON or LaTeX."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from emu2eval.papers.rebuild import PaperCell, PaperLine, Rebuilt
from emu2eval.report import formats, latex
from emu2eval.report.formats import Column, ends, number

if TYPE_CHECKING:
    from rich.console import RenderableType

_NO_INTERVAL = (
    "measured: value [95 % interval] and difference from the published number; the interval covers the "
    "measured number only, since none was published"
)


@dataclass(frozen=True, slots=True)
class Number:
    """One cell of a rebuilt table, as CSV and JSON hold it. comparable: with the others of its column.

    digits: how many to show after the point.
    """

    table: str
    column: str
    task: str
    model: str
    group: str | None
    shots: str
    source: str
    value: float | None
    low: float | None
    high: float | None
    n: int | None
    split: str | None
    protocol: str | None
    metric: str
    variant: str | None
    judge: str | None
    published: float | None
    difference: float | None
    verdict: str | None
    comparable: bool | None
    why: tuple[str, ...]
    notes: tuple[str, ...]
    run: str | None
    digits: int


def numbers(rebuilt: Rebuilt) -> list[Number]:
    """Every cell in the order of the table; dashes have no value."""
    return [
        _number(rebuilt, line, place, cell)
        for line in rebuilt.lines
        for place, cell in enumerate(line.cells)
    ]


def _number(rebuilt: Rebuilt, line: PaperLine, place: int, cell: PaperCell) -> Number:
    column, row = rebuilt.table.columns[place], cell.row
    return Number(
        table=rebuilt.table.id,
        column=column.id,
        task=column.task,
        model=line.model,
        group=line.group,
        shots=line.shots,
        source="measured" if line.measured else "published",
        value=cell.value,
        low=row.low if row else None,
        high=row.high if row else None,
        n=row.n if row else None,
        split=row.split if row else column.split,
        protocol=row.protocol_label if row else column.protocol,
        metric=row.metric if row else column.metric,
        variant=row.variant if row else column.variant,
        judge=row.judge if row else column.judge,
        published=cell.published,
        difference=cell.difference,
        verdict=cell.verdict(rebuilt.table.digits) if cell.published is not None else None,
        comparable=None if cell.value is None else not cell.why,
        why=tuple(reason.text for reason in cell.why),
        notes=cell.notes,
        run=row.run if row else None,
        digits=max(rebuilt.table.digits, 2),
    )


class _Marks:
    """Letters for what stands below a table, in the order in which they are wanted."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def of(self, cell: PaperCell) -> str:
        wanted = [*(reason.text for reason in cell.why), *cell.notes]
        self.texts += [text for text in dict.fromkeys(wanted) if text not in self.texts]
        return "".join(formats.superscript(self.texts.index(t)) for t in dict.fromkeys(wanted))

    def lines(self) -> Iterator[str]:
        for place, text in enumerate(self.texts):
            yield f"{formats.superscript(place)} {text}"


@dataclass(frozen=True, slots=True)
class _Laid:
    """A table as texts: its columns, its lines, and what stands above and below."""

    title: str
    columns: list[Column[PaperLine]]
    lines: Sequence[PaperLine]
    below: list[str]


def _laid(rebuilt: Rebuilt) -> _Laid:
    table, marks = rebuilt.table, _Marks()
    shown = {
        id(line): [_cell(cell, line, table.digits, marks) for cell in line.cells]
        for line in rebuilt.lines
    }
    columns: list[Column[PaperLine]] = [
        Column("group", lambda line: line.group or "", empty=""),
        Column("model", lambda line: f"{line.model}, measured" if line.measured else line.model),
        Column("shots", lambda line: line.shots, number=True, empty=str(table.shots)),
    ]
    for place, column in enumerate(table.columns):
        columns.append(Column(column.title, partial(_at, shown, place), number=True))
    below = [*marks.lines()]
    if any(line.measured for line in rebuilt.lines):
        below.append(_NO_INTERVAL)
    if rebuilt.passed_over:
        below.append(
            f"not shown, because they are less comparable: {', '.join(rebuilt.passed_over)}"
        )
    below += _settings(rebuilt)
    title = (
        f"{rebuilt.paper.spec.title}. {table.caption} ({table.scale}). {rebuilt.paper.spec.source}"
    )
    return _Laid(title, formats.needed(columns, rebuilt.lines), rebuilt.lines, below)


def _at(shown: Mapping[int, Sequence[str]], place: int, line: PaperLine) -> str:
    return shown[id(line)][place]


def _cell(cell: PaperCell, line: PaperLine, digits: int, marks: _Marks) -> str:
    text = number(cell.value, digits)
    if cell.row is not None:
        if cell.row.low is not None:
            text += f" {ends(cell.row.low, cell.row.high, digits)}"
        if cell.difference is not None:
            text += f" {formats.signed(cell.difference, digits)}"
    elif line.measured:
        return ""
    return text + marks.of(cell)


def _settings(rebuilt: Rebuilt) -> Iterator[str]:
    """What the paper's columns are of, those of one setting together."""
    same: dict[str, list[str]] = {}
    for column in rebuilt.table.columns:
        split = f"split {column.split}" if column.split else "split not stated"
        protocol = f"protocol {column.protocol}" if column.protocol else "no matching protocol"
        same.setdefault(f"{split}, {protocol}, {column.label}", []).append(column.title)
    for setting, titles in same.items():
        yield f"{', '.join(titles)}: {setting}"


def rich_table(rebuilt: Rebuilt) -> RenderableType:
    """For a terminal; marks and settings stand below."""
    from rich.console import Group
    from rich.text import Text

    laid = _laid(rebuilt)
    table = formats.rich_table(
        laid.columns, laid.lines, title=laid.title, section=lambda line: line.group
    )
    return Group(table, *(Text(line, style="dim") for line in laid.below))


def render(made: Iterable[Rebuilt], form: str) -> str:
    """The tables as text, one after the other. Raises UnknownName for a format that does not exist."""
    rebuilt = list(made)
    forms = {
        "csv": lambda: formats.csv_text(Number, [n for each in rebuilt for n in numbers(each)]),
        "json": lambda: formats.json_text(_json(rebuilt)),
        "latex": lambda: "\n".join(_latex(each) for each in rebuilt),
        "markdown": lambda: "\n".join(_markdown(_laid(each)) for each in rebuilt),
    }
    return formats.chosen(forms, form)


def _markdown(laid: _Laid) -> str:
    table = formats.markdown(laid.columns, laid.lines)
    return f"**{laid.title}**\n\n{table}\n{formats.listed(laid.below)}"


def _latex(rebuilt: Rebuilt) -> str:
    laid = _laid(rebuilt)
    places = {column.title: place for place, column in enumerate(rebuilt.table.columns)}
    return latex.table(
        laid.columns,
        laid.lines,
        label=f"{rebuilt.paper.name} {rebuilt.table.id}",
        caption=laid.title,
        notes=[
            *laid.below,
            "bold: best in the column for each number of shots, among comparable numbers",
        ],
        split=True,
        best=partial(_best, rebuilt, places),
        section=lambda line: line.group,
    )


def _best(
    rebuilt: Rebuilt, places: Mapping[str, int], column: Column[PaperLine], line: PaperLine
) -> bool:
    """Whether a number is the best of those at its shots that can be compared."""
    place = places.get(column.name)
    if place is None or line.cells[place].value is None or line.cells[place].why:
        return False
    at = [other.cells[place] for other in rebuilt.lines if other.shots == line.shots]
    rivals = [cell.value for cell in at if cell.value is not None and not cell.why]
    pick = max if rebuilt.table.higher_is_better else min
    return line.cells[place].value == pick(rivals) and min(rivals) < max(rivals)


def _json(rebuilt: Sequence[Rebuilt]) -> dict[str, Any]:
    paper = rebuilt[0].paper
    return {
        "paper": paper.name,
        "title": paper.spec.title,
        "source": paper.spec.source,
        "tables": [
            {
                "id": each.table.id,
                "caption": each.table.caption,
                "scale": each.table.scale,
                "passed_over": each.passed_over,
                "numbers": [asdict(number) for number in numbers(each)],
            }
            for each in rebuilt
        ],
    }
