"""Published tables: one YAML file a paper, whose columns say what stands for them here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta, field

from emu2eval.errors import ConfigError, UnknownName
from emu2eval.spec.catalog import find_file
from emu2eval.spec.settings import Keys
from emu2eval.spec.yamlfile import Document, Spec, read_yaml, validate
from emu2eval.types import metric_label

# fmt: off
Kind = Literal[
    "split", "protocol", "metric", "judge", "subset", "settings", "unscored", "shortened",
    "text_only", "training",
]
# fmt: on
"""What can keep a number from being compared with the others of its column."""


class PaperMark(Spec):
    """What a sign next to a number means. why: None if the number is comparable anyway."""

    means: str
    why: Kind | None = None


class PaperColumn(Spec):
    """A column, and how it is measured here.

    split: the paper's, by the task's name for it; stand_in: one that can be scored, where its answers are
    hidden. protocol: None where the paper's is none of the task's. metric, variant: as in our tables.
    judge: who judged, in which words; every variant of the metric is then another judge's.
    set: what was done otherwise than the protocol does it, as --set takes it, such as RICES.
    """

    id: str
    title: str
    task: str
    split: str | None = None
    stand_in: str | None = None
    protocol: str | None = None
    metric: str
    variant: str | None = None
    judge: str | None = None
    set: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The metric with its variant, as our tables name it."""
        return metric_label(self.metric, self.variant)


class PaperRow(Spec):
    """A model's numbers, None for a dash. checkpoint: the name of its model file here.

    shots: a number, or 0*. trained_on: columns whose training data it saw. note: to all its numbers; notes:
    to those of columns.
    """

    model: str
    checkpoint: str | None = None
    shots: str | int | None = None
    mark: str | None = None
    group: str | None = None
    values: tuple[float | None, ...]
    trained_on: tuple[str, ...] = ()
    note: str | None = None
    notes: dict[str, str] = field(default_factory=dict)


class PaperTable(Spec):
    """shots: of rows that say none; digits: after the point, as printed."""

    id: str
    caption: str
    scale: str
    digits: Annotated[int, Meta(ge=0, le=6)] = 1
    shots: str | int = 0
    higher_is_better: bool = True
    marks: dict[str, PaperMark] = field(default_factory=dict)
    columns: tuple[PaperColumn, ...]
    rows: tuple[PaperRow, ...]

    def shots_of(self, row: PaperRow) -> str:
        """As our tables write them."""
        return str(self.shots if row.shots is None else row.shots)


class PaperSpec(Spec):
    title: str
    source: str
    year: int
    about: str = ""
    tables: Annotated[tuple[PaperTable, ...], Meta(min_length=1)]


@dataclass(frozen=True)
class Paper:
    """name: of its file."""

    name: str
    spec: PaperSpec
    document: Document

    def table(self, name: str) -> PaperTable:
        """Raises UnknownName."""
        for table in self.spec.tables:
            if table.id == name:
                return table
        known = [table.id for table in self.spec.tables]
        raise UnknownName("table", name, known, where=self.document.path, of=self.name)


def load_paper(name: str) -> Paper:
    """A paper by name or by the path of its YAML file. Raises UnknownName or ConfigError."""
    document = read_yaml(find_file("paper", name))
    spec = validate(PaperSpec, document.data, document)
    for number, table in enumerate(spec.tables):
        _check(table, document, ("tables", number))
    return Paper(document.path.stem, spec, document)


def _check(table: PaperTable, document: Document, at: Keys) -> None:
    known = [column.id for column in table.columns]
    if len(set(known)) < len(known):
        raise ConfigError("two columns have the same id", where=document.where((*at, "columns")))
    for number, row in enumerate(table.rows):
        where = document.where((*at, "rows", number))
        if len(row.values) != len(known):
            raise ConfigError(
                f"{row.model} has {len(row.values)} values, but the table has {len(known)} columns",
                where=where,
                hint="use null for a dash",
            )
        for column in (*row.trained_on, *row.notes):
            if column not in known:
                raise UnknownName("column", column, known, where=where)
        if row.mark is not None and row.mark not in table.marks:
            raise UnknownName("mark", row.mark, table.marks, where=where)
