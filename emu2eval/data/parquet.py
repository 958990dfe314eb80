"""Parquet files as the hub keeps them: columns mapped to samples, pictures left where they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from emu2eval import parquetfile
from emu2eval.data.shards import shards
from emu2eval.errors import ConfigError, DataError, UnknownName
from emu2eval.types import Picture, Sample

BATCH = 1024
"""Rows held at a time, without their pictures."""


def read(
    root: Path,
    files: str | list[str],
    *,
    id: str = "id",
    pictures: str | list[str] = "image",
    fields: list[str] | dict[str, str] | None = None,
    answer: str | None = None,
    references: str | None = None,
    choices: str | None = None,
    cluster: str | None = None,
    groups: list[str] | dict[str, str] | None = None,
    where: dict[str, Any] | None = None,
    join: dict[str, Any] | None = None,
) -> Iterator[Sample]:
    """Rows of the files that fit the patterns `files`; every option names a column.

    A column inside another is written with a dot; of a list, it is that of each item, as in
    `answers.answer`. pictures: columns of {bytes, path} as the hub stores pictures, or of lists of
    them; a row without one has none. fields, groups: columns, or name: column. answer: absent = the
    most common reference (ties: the first). where: column: value, for the rows that belong to the
    split. join: {files, on, id}: the pictures stand in other files, in the row whose `id` equals this
    row's column `on`.
    """
    columns = _Columns(
        id, _named(fields or []), answer, references, choices, cluster, _named(groups or [])
    )
    shown = [pictures] if isinstance(pictures, str) else list(pictures)
    joined = _Joined.read(root, join, shown) if join is not None else None
    found = False
    for path in shards(root, files):
        file = parquetfile.open_file(path)
        wanted = {*columns.all(), *(where or {}), *([joined.on] if joined else [])}
        _check_columns(file, path, {*wanted, *([] if joined else shown)})
        number = 0
        for group in range(file.num_row_groups):
            places = _Places(file, path, group, [] if joined else shown)
            for row_number, row in enumerate(_rows(file, group, wanted)):
                place = f"{path}, row {number}"
                number += 1
                if any(_at(row, column) != value for column, value in (where or {}).items()):
                    continue
                found = True
                seen = joined.of(row, place) if joined else places.pictures(row_number)
                yield columns.sample(row, tuple(seen), place)
    if where and not found:
        raise DataError(f"no row has {where}", where=root)


@dataclass(frozen=True)
class _Columns:
    id: str
    fields: Mapping[str, str]
    answer: str | None
    references: str | None
    choices: str | None
    cluster: str | None
    groups: Mapping[str, str]

    def all(self) -> set[str]:
        single = (self.id, self.answer, self.references, self.choices, self.cluster)
        return {*filter(None, single), *self.fields.values(), *self.groups.values()}

    def sample(self, row: Mapping[str, Any], pictures: tuple[Picture, ...], where: str) -> Sample:
        sample_id = _at(row, self.id)
        if sample_id is None or sample_id == "":
            raise DataError(f"the row has no id in its column {self.id!r}", where=where)
        listed = _texts(_at(row, self.references)) if self.references else []
        reply = _at(row, self.answer) if self.answer else None
        if self.answer is None and listed:
            reply = Counter(listed).most_common(1)[0][0]
        if self.references is None and reply is not None:
            listed = [str(reply)]
        cluster = _at(row, self.cluster) if self.cluster else None
        labels = {name: _at(row, column) for name, column in self.groups.items()}
        return Sample(
            id=str(sample_id),
            fields={name: _text(_at(row, column)) for name, column in self.fields.items()},
            pictures=pictures,
            answer=str(reply) if reply is not None else None,
            references=tuple(listed),
            choices=tuple(_texts(_at(row, self.choices))) if self.choices else (),
            cluster=str(cluster) if cluster is not None else None,
            groups={name: str(label) for name, label in labels.items() if label not in (None, "")},
        )


class _Places:
    """Where the pictures of one row group stand; the bytes themselves are not read if it can be helped."""

    def __init__(self, file: Any, path: Path, group: int, columns: Sequence[str]):
        self.path, self.group = path, group
        # Per column: how many pictures the rows hold, None = one each.
        self.counts = {column: _counts(file, group, column) for column in columns}

    def pictures(self, row: int) -> Iterator[Picture]:
        for column, counts in self.counts.items():
            held = counts[row] if counts is not None else None
            if held is None:
                yield self._picture(column, row)
            else:
                for item in range(max(held, 0)):
                    yield self._picture(column, row, item)

    def _picture(self, column: str, row: int, item: int | None = None) -> Picture:
        return Picture(str(self.path), member=parquetfile.member(column, self.group, row, item))


def _counts(file: Any, group: int, column: str) -> list[int | None] | None:
    """None where every row holds one picture; else per row None = one, or the length of its list."""
    meta = file.metadata.row_group(group)
    for number in range(meta.num_columns):
        chunk = meta.column(number)
        # The footer knows how many cells are empty, so that the pictures need not be read for it.
        if chunk.path_in_schema == f"{column}.bytes" and chunk.statistics is not None:
            empty = chunk.statistics.null_count if chunk.statistics.has_null_count else None
            if empty == 0:
                return None
            if empty == meta.num_rows:
                return [0] * meta.num_rows
    held: list[int | None] = []
    for cell in file.read_row_group(group, columns=[column], use_threads=False).column(0):
        if not cell.is_valid:
            held.append(0)
        elif isinstance(cell, (pa.ListScalar, pa.LargeListScalar)):
            held.append(len(cell))
        else:
            held.append(None if cell["bytes"].is_valid else 0)
    return held


@dataclass(frozen=True)
class _Joined:
    """Pictures that stand in files of their own, by the id of their row there."""

    on: str
    by_id: Mapping[str, tuple[Picture, ...]]

    @classmethod
    def read(cls, root: Path, join: Mapping[str, Any], columns: Sequence[str]) -> _Joined:
        if set(join) != {"files", "on", "id"}:
            raise ConfigError(f"`join` takes files, on and id, not {', '.join(sorted(join))}")
        key = str(join["id"])
        by_id: dict[str, tuple[Picture, ...]] = {}
        for path in shards(root, join["files"]):
            file = parquetfile.open_file(path)
            _check_columns(file, path, {key, *columns})
            for group in range(file.num_row_groups):
                places = _Places(file, path, group, columns)
                for number, row in enumerate(_rows(file, group, {key})):
                    by_id[str(_at(row, key))] = tuple(places.pictures(number))
        return cls(str(join["on"]), by_id)

    def of(self, row: Mapping[str, Any], where: str) -> tuple[Picture, ...]:
        key = str(_at(row, self.on))
        if key not in self.by_id:
            raise DataError(
                f"there is no picture with the id {key!r}, which the row names in {self.on!r}",
                where=where,
                hint="questions and pictures must be of the same split",
            )
        return self.by_id[key]


def _rows(file: Any, group: int, columns: set[str]) -> Iterator[dict[str, Any]]:
    """The rows of a row group as dictionaries, only the top-level columns that are wanted."""
    tops = sorted({column.partition(".")[0] for column in columns})
    batches = file.iter_batches(
        batch_size=BATCH, row_groups=[group], columns=tops, use_threads=False
    )
    for batch in batches:
        yield from batch.to_pylist()


def _check_columns(file: Any, path: Path, columns: set[str]) -> None:
    known = file.schema_arrow.names
    for column in sorted(columns):
        if column.partition(".")[0] not in known:
            raise UnknownName(
                "column", column, known, where=path,
                hint="the repository has changed, or is another one than the task's file describes",
            )  # fmt: skip


def _at(row: Mapping[str, Any], column: str) -> Any:
    """The value of a column; `a.b` is b inside a, of each item where a is a list."""
    value: Any = row
    for step in column.split("."):
        if isinstance(value, list):
            value = [item.get(step) if isinstance(item, Mapping) else None for item in value]
        else:
            value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _named(columns: list[str] | dict[str, str]) -> dict[str, str]:
    return dict(columns) if isinstance(columns, Mapping) else {name: name for name in columns}


def _texts(value: Any) -> list[str]:
    if value is None:
        return []
    return [str(item) for item in value] if isinstance(value, list) else [str(value)]


def _text(value: Any) -> str:
    return "" if value is None else str(value)
