"""Published tables made again, with measured numbers beside the published ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from emu2eval import registry
from emu2eval.errors import UnknownName, UserError
from emu2eval.papers.published import Kind, Paper, PaperColumn, PaperRow, PaperTable
from emu2eval.runs.record import Record, read_record
from emu2eval.spec.changes import Changes
from emu2eval.types import Row, Shots

SHARED: frozenset[Kind] = frozenset({"text_only", "training"})
"""What a published number and its repetition have in common: they keep neither from the other."""

TEXT_ONLY = "0* uses two demonstrations without images, so it is not true zero-shot"
TRAINED = "trained on this benchmark's training data"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a number cannot be compared."""

    kind: Kind
    text: str


@dataclass(frozen=True, slots=True)
class MeasuredRun:
    """The rows of a run's report. changes: what was set by hand and can change a number."""

    name: str
    rows: tuple[Row, ...]
    changes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PaperCell:
    """One number. row: what was measured, None in published lines; published: what it stands against.

    why: what keeps it from being compared with its column; notes: what else is to be known.
    """

    value: float | None = None
    why: tuple[Reason, ...] = ()
    notes: tuple[str, ...] = ()
    row: Row | None = None
    published: float | None = None

    @property
    def apart(self) -> tuple[Reason, ...]:
        """What keeps a measured number from being compared with its published one."""
        return tuple(reason for reason in self.why if reason.kind not in SHARED)

    @property
    def difference(self) -> float | None:
        """Measured minus published."""
        if self.row is None or self.value is None or self.published is None:
            return None
        return self.value - self.published

    def verdict(self, digits: int) -> str:
        """Whether the published number, as it was rounded, lies in the 95 % interval of the measured one."""
        if self.value is None or self.published is None:
            return "not measured" if self.value is None else "nothing published"
        if self.apart:
            return "not comparable"
        row = self.row
        if row is None or row.low is None or row.high is None:
            return "no interval"
        half = 0.5 * 10.0**-digits + 1e-9
        inside = row.low - half <= self.published <= row.high + half
        return "reproduced" if inside else "not reproduced"


@dataclass(frozen=True, slots=True)
class PaperLine:
    """One model at one number of shots, as a paper writes it; a cell a column."""

    model: str
    shots: str
    cells: tuple[PaperCell, ...]
    measured: bool = False
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A table made again. passed_over: runs that fit a number's place less well than the one shown."""

    paper: Paper
    table: PaperTable
    lines: tuple[PaperLine, ...]
    passed_over: tuple[str, ...] = ()


_Setting = tuple[str, Shots]
"""A measured model and its number of shots."""


def rebuild(
    paper: Paper, table: PaperTable, runs: Iterable[MeasuredRun], against: str | None = None
) -> Rebuilt:
    """The published lines; below each what was measured of the same checkpoint at the same shots; then the
    other measured ones.

    against: the published model, by its name or that of its checkpoint, that every measured number stands
    against; else the one of the measured model's name. Of several runs for one place the most comparable
    is shown, then the largest. Raises UnknownName.
    """
    if against is not None:
        counterparts(paper, table, against)
    places: dict[_Setting, list[list[PaperCell]]] = {}
    for run in runs:
        for place, column in enumerate(table.columns):
            row = _fitting(run, column, table.columns)
            if row is not None:
                columns = places.setdefault((row.model, row.shots), [[] for _ in table.columns])
                columns[place].append(PaperCell(row.value, reasons(run, row, column), row=row))
    passed_over: list[str] = []
    measured = {
        key: tuple(_best(cells, passed_over) for cells in columns)
        for key, columns in places.items()
    }
    lines: list[PaperLine] = []
    for published in table.rows:
        lines.append(_published(table, published))
        for (model, shots), cells in list(measured.items()):
            if str(shots) == table.shots_of(published) and _is(published, against or model):
                del measured[model, shots]
                lines.append(_beside(table, published, model, cells))
    for (model, shots), cells in sorted(measured.items(), key=_order):
        lines.append(PaperLine(model, str(shots), cells, measured=True))
    return Rebuilt(paper, table, tuple(lines), tuple(dict.fromkeys(passed_over)))


def counterparts(paper: Paper, table: PaperTable, name: str) -> list[PaperRow]:
    """The rows of a published model, by its name or that of its checkpoint. Raises UnknownName."""
    rows = [row for row in table.rows if _is(row, name)]
    if not rows:
        known = {row.checkpoint or row.model for row in table.rows}
        raise UnknownName(
            "model",
            name,
            known,
            hint="name the published model with --against",
            of=f"table {table.id} of {paper.name}",
        )
    return rows


def neutral(adapter: str) -> frozenset[str]:
    """The model settings of an adapter that change no answer; none where it is not there."""
    try:
        found: frozenset[str] = registry.find("adapter", adapter).neutral
    except UserError:
        return frozenset()
    return found


def _is(row: PaperRow, name: str) -> bool:
    return name in (row.model, row.checkpoint)


def _fitting(run: MeasuredRun, column: PaperColumn, columns: Sequence[PaperColumn]) -> Row | None:
    """The run's number for the column: of its metric, else of a variant of it, else its headline; None where
    another column of the task is nearer to it. Ablations measure other things.
    """
    rows = [
        row
        for row in run.rows
        if row.task == column.task and row.group is None and row.ablation == "none"
    ]
    if not rows or rows[0].value is None:
        return None
    chosen = max(rows, key=lambda row: _metric_nearness(row, column))  # of equals, the first
    rivals = [_nearness(chosen, other) for other in columns if other.task == column.task]
    return chosen if _nearness(chosen, column) == max(rivals) else None


def _nearness(row: Row, column: PaperColumn) -> int:
    return (row.split == column.split) + _metric_nearness(row, column)


def _metric_nearness(row: Row, column: PaperColumn) -> int:
    """2: the same metric; 1: another variant of it, such as CLIP-I by another CLIP; 0: another one."""
    return 2 if _same_metric(row, column) else int(row.metric == column.metric)


def _same_metric(row: Row, column: PaperColumn) -> bool:
    same_rule = row.variant == column.variant or column.judge is not None
    return row.metric == column.metric and same_rule


def reasons(run: MeasuredRun, row: Row, column: PaperColumn) -> tuple[Reason, ...]:
    """What sets a measured number apart from those of its column."""
    return tuple(_each_reason(run, row, column))


def _each_reason(run: MeasuredRun, row: Row, column: PaperColumn) -> Iterator[Reason]:
    title = column.title
    if row.split != column.split:
        said = f"the paper uses {column.split}" if column.split else "the paper names none"
        yield Reason("split", f"{title}: split {row.split}; {said}")
    if row.protocol_label != column.protocol:
        said = (
            f"the paper's is {column.protocol}" if column.protocol else "none matches the paper's"
        )
        yield Reason("protocol", f"{title}: protocol {row.protocol_label}; {said}")
    if not _same_metric(row, column):
        yield Reason("metric", f"{title}: {row.label}; the paper's is {column.label}")
    elif column.judge is not None:
        yield Reason("judge", f"{title}: judged as {row.label}; the paper's judge: {column.judge}")
    if not row.complete:
        yield Reason("subset", f"{title}: a subset, {row.covered:,} of {row.queries:,} queries")
    if row.shortened:
        yield Reason("shortened", f"{title}: {row.shortened:,} prompts shortened to fit")
    if row.unscored or row.hidden:
        count = row.unscored + row.hidden
        yield Reason("unscored", f"{title}: {count:,} queries unscored")
    own = [change for change in run.changes if change not in column.set]
    if own:
        yield Reason("settings", f"changed settings: {', '.join(own)}")
    absent = [change for change in column.set if change not in run.changes]
    if absent:
        yield Reason("settings", f"{title}: the paper used {', '.join(absent)}")
    if row.shots.text_only:
        yield Reason("text_only", TEXT_ONLY)


def _best(cells: Sequence[PaperCell], passed_over: list[str]) -> PaperCell:
    if not cells:
        return PaperCell()
    ranked = sorted(cells, key=lambda cell: (len(cell.apart), -_n(cell), _name(cell)))
    passed_over += [_name(cell) for cell in ranked[1:]]
    return ranked[0]


def _n(cell: PaperCell) -> int:
    return cell.row.n if cell.row is not None else 0


def _name(cell: PaperCell) -> str:
    return cell.row.run if cell.row is not None else ""


def _published(table: PaperTable, row: PaperRow) -> PaperLine:
    shots = table.shots_of(row)
    mark = table.marks[row.mark] if row.mark is not None else None
    cells = []
    for column, value in zip(table.columns, row.values, strict=True):
        why = [Reason("text_only", TEXT_ONLY)] if shots == "0*" else []
        if column.id in row.trained_on:
            why.append(Reason("training", TRAINED))
        notes = [note for note in (row.note, row.notes.get(column.id)) if note is not None]
        if mark is not None and mark.why is not None:
            why.append(Reason(mark.why, mark.means))
        elif mark is not None:
            notes.append(mark.means)
        # A dash stands for no number, unless the paper says why.
        own = [row.notes[column.id]] if column.id in row.notes else []
        cells.append(
            PaperCell(None, (), tuple(own))
            if value is None
            else PaperCell(value, tuple(why), tuple(notes))
        )
    return PaperLine(row.model, shots, tuple(cells), group=row.group)


def _beside(table: PaperTable, row: PaperRow, model: str, cells: Sequence[PaperCell]) -> PaperLine:
    """A measured line below its published one, whose training data it shares."""
    made = []
    for column, cell, value in zip(table.columns, cells, row.values, strict=True):
        why = cell.why
        if cell.value is not None and column.id in row.trained_on:
            why = (*why, Reason("training", TRAINED))
        made.append(replace(cell, why=why, published=value if cell.value is not None else None))
    shots = table.shots_of(row)
    return PaperLine(model, shots, tuple(made), measured=True, group=row.group)


def _order(item: tuple[_Setting, object]) -> tuple[object, ...]:
    (model, shots), _ = item
    return model, shots.rank


def measured_run(folder: Path, rows: Sequence[Row]) -> MeasuredRun:
    """A run for `rebuild`: its rows with what was set by hand and can change a number."""
    record = read_record(folder)
    # Published numbers are found by the model's own name, whatever tables call it.
    own = tuple(msgspec.structs.replace(row, model=record.model.name) for row in rows)
    return MeasuredRun(folder.name, own, tuple(_telling(record)))


def _telling(record: Record) -> Iterator[str]:
    """The changes that can change a number, as --set takes them."""
    harmless = neutral(record.model.adapter) if record.model.adapter is not None else frozenset()
    changes = record.changes
    telling = Changes(
        task={key: value for key, value in changes.task.items() if not _places_encoder(key)},
        model={
            key: value
            for key, value in changes.model.items()
            if not (key.startswith("settings.") and key.removeprefix("settings.") in harmless)
        },
        judge=changes.judge,
    )
    yield from telling.assignments()


def _places_encoder(key: str) -> bool:
    """Whether a task's key says where a scorer's encoder lies; its name is part of the metric's."""
    *parts, last = key.split(".")
    return parts[:2] == ["score", "options"] and len(parts) == 3 and last == "encoder"
