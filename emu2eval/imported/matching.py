"""Which sample an answer is for: by an id of the data itself, never by its place unless that is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from emu2eval.data.names import occurrence
from emu2eval.data.samples import Samples
from emu2eval.errors import DataError, UnknownName
from emu2eval.imported.entries import Entry, Log
from emu2eval.types import Sample

KNOWN = (
    *("question_id", "questionId", "questionID", "question_index", "sample_id", "id", "qid", "uid"),
    *("image_id", "imageId", "image", "file", "index", "pid"),
)
"""Columns that usually hold ids: one of these is taken before another that fits as well."""


@dataclass
class Matched:
    """Entries by the id of their sample. column: where the ids stood.

    unknown: ids of the file that the split does not hold; repeated: rows that say the same again. An id that
    the benchmark itself holds more than once is matched by its occurrence in the file.
    """

    column: str
    entries: dict[str, Entry] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    repeated: int = 0


def match(
    log: Log, samples: Samples, column: str | None, in_order: Callable[[], Sequence[str]]
) -> Matched:
    """Finds the sample of each entry. in_order: the ids of the split as its files have them.

    Raises DataError where ids cannot be told, where two answers to one sample disagree, or where the
    questions of the file are others than those of the data.
    """
    names = list(dict.fromkeys(name for entry in log.entries for name in entry.columns))
    if column is not None and column not in names:
        where = log.entries[0].where
        raise UnknownName("column of ids", column, names, where=where)
    by_row = column is not None and column == log.row_number
    found = Matched(column or _guess(log, names, samples))
    order = in_order() if by_row else ()
    met: Counter[tuple[str, str | None]] = Counter()
    for entry in log.entries:
        if found.column not in entry.columns:
            raise DataError(f"the row has no {found.column}", where=entry.where)
        value = entry.columns[found.column]
        name = _at(order, value, entry) if by_row else str(value)
        if not by_row and samples.position(occurrence(name, 2)) is not None:
            met[name, entry.filter] += 1
            name = occurrence(name, met[name, entry.filter])
        if samples.position(name) is None:
            found.unknown.append(name)
        else:
            _add(found, name, entry)
    if not found.entries:
        raise _nothing(log, samples, f"none of the ids in column {found.column} is")
    _agree(found, samples, thorough=by_row)
    return found


def _guess(log: Log, names: Sequence[str], samples: Samples) -> str:
    """The column whose values name the most samples."""
    ids = frozenset(samples.ids)
    values = {
        name: [str(entry.columns.get(name)) for entry in log.entries]
        for name in names
        if name != log.row_number
    }
    hits = {name: len(ids.intersection(column)) for name, column in values.items()}
    best = max(hits.values(), default=0)
    if not best:
        raise _nothing(log, samples, "no column contains ids that are")
    able = sorted((name for name in hits if hits[name] == best), key=_rank)
    column = able[0]
    sure = column.rpartition(".")[2] in KNOWN
    # Numbers of another meaning may be ids by chance.
    if not sure and 2 * best < len(log.entries):
        raise _nothing(
            log, samples, f"no column certainly contains ids: {column} has {best:,} that are"
        )
    rivals = [name for name in able[1:] if values[name] != values[column]]
    if rivals and not sure:
        raise DataError(
            f"the columns {' and '.join([column, *rivals])} may all contain ids",
            where=log.entries[0].where,
            hint="choose one: --id COLUMN",
        )
    return column


def _rank(name: str) -> tuple[int, int, str]:
    last = name.rpartition(".")[2]
    return KNOWN.index(last) if last in KNOWN else len(KNOWN), len(name), name


def _nothing(log: Log, samples: Samples, what: str) -> DataError:
    first = log.entries[0]
    seen = ", ".join(
        f"{name} {value!r:.40}" for name, value in first.columns.items() if name != log.row_number
    )
    hint = "check --task and --split"
    if log.row_number is not None:
        hint += f"; or --id {log.row_number}, the row number, verified against the text of the questions"
    return DataError(
        f"{what} in {samples.where}, whose ids look like {samples.ids[0]!r}; the file's first row: "
        f"{seen[:400] or 'nothing'}",
        where=first.where,
        hint=hint,
    )


def _at(order: Sequence[str], value: object, entry: Entry) -> str:
    text = str(value)
    if not text.isdecimal() or int(text) >= len(order):
        raise DataError(
            f"{text} is not a row number of the split, which has {len(order):,} rows",
            where=entry.where,
        )
    return order[int(text)]


def _add(found: Matched, name: str, entry: Entry) -> None:
    known = found.entries.setdefault(name, entry)
    if known is entry:
        return
    if known.response.error is not None or entry.response.error is not None:
        # No answer contradicts none: a later attempt may have brought one.
        found.entries[name] = entry if entry.response.error is None else known
        found.repeated += 1
        return
    if (known.response, known.choices) != (entry.response, entry.choices):
        raise DataError(
            f"the sample {name!r} has two different answers; the other one: {known.where}",
            where=entry.where,
            hint="keep one of them in the file"
            + ("; or choose a filter: --filter NAME" if known.filter != entry.filter else ""),
        )
    found.repeated += known.filter == entry.filter
    found.entries[name] = replace(known, theirs={**known.theirs, **entry.theirs})


def _agree(found: Matched, samples: Samples, *, thorough: bool) -> None:
    """Raises DataError where the questions of the file are not those of the data.

    thorough: every row must hold the text of its sample; else a column of the same name must, mostly.
    """
    other: list[tuple[Entry, Sample]] = []
    seen = 0
    for name, entry in found.entries.items():
        position = samples.position(name)
        assert position is not None
        sample = samples[position]
        if thorough:
            seen += 1
            if not _holds(entry, sample):
                other.append((entry, sample))
        elif "question" in entry.columns and "question" in sample.fields:
            seen += 1
            if _plain(str(entry.columns["question"])) != _plain(sample.fields["question"]):
                other.append((entry, sample))
    if other and (thorough or 2 * len(other) > seen):
        entry, sample = other[0]
        text = _longest(sample)
        raise DataError(
            f"the ids in column {found.column} refer to different samples: the questions of "
            f"{len(other):,} of "
            f"{seen:,} rows do not match; the first is {sample.id!r} with {text!r:.80}",
            where=entry.where,
            hint="check --task and --split; to use another id column: --id COLUMN",
        )


def _holds(entry: Entry, sample: Sample) -> bool:
    text = _plain(_longest(sample))
    return bool(text) and any(text in _plain(str(value)) for value in _texts(entry))


def _texts(entry: Entry) -> Iterable[str]:
    return (value for value in entry.columns.values() if isinstance(value, str))


def _longest(sample: Sample) -> str:
    question = sample.fields.get("question")
    return question if question else max(sample.fields.values(), key=len, default="")


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
