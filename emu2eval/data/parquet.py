"""Parquet files as the hub keeps them: columns mapped to samples, images left where they are."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Any

import pyarrow as pa

from emu2eval.data.shards import shards
from emu2eval.data.vqa import most_common
from emu2eval.errors import ConfigError, DataError, UnknownName
from emu2eval.media import parquetfile
from emu2eval.types import Image, Sample

BATCH = 1024
"""Rows held at a time, without their images."""

Images = tuple[Image, ...]


def read(
    root: Path,
    files: str | list[str],
    *,
    id: str = "id",
    images: str | list[str] = "image",
    fields: list[str] | dict[str, str] | None = None,
    answer: str | None = None,
    references: str | bool | None = None,
    alternatives: dict[str, str] | None = None,
    choices: str | None = None,
    cluster: str | None = None,
    groups: list[str] | dict[str, str] | None = None,
    where: dict[str, Any] | None = None,
    join: dict[str, Any] | None = None,
) -> Iterator[Sample]:
    """Rows of the files that fit the patterns `files`; every option names a column.

    `a.b` is the column b inside a; of a list, that of each item, or with a number of one item, as in
    `answers.0.answer`. id can be a text with columns in braces. images: columns of {bytes, path} as
    the hub stores images, or of lists of them; a row without one has none. fields, groups: columns,
    or name: column. answer: of a list, the most common (ties: the first); absent = that of the
    references. references: absent = the answer; false = none, to save memory in a pool.
    alternatives: other sets of references, name: column. where, join: as in `rows`.
    """
    named, labelled = _named(fields or []), _named(groups or [])
    listed = references if isinstance(references, str) else None
    shown = answer or listed
    others = alternatives or {}
    held = {*named.values(), *labelled.values()}
    held |= {column for column in (listed, shown, choices, cluster, *others.values()) if column}
    wanted = {*_columns(id), *held}
    for place, row, seen in rows(
        root, files, columns=wanted, checked=held, images=images, where=where, join=join
    ):
        cells = _Cells(row, place)
        reply = most_common(cells.texts(shown)) or None if shown else None
        given = (reply,) if references is None and reply is not None else ()
        label = at(row, cluster) if cluster else None
        labels = {name: cells.text(column) for name, column in labelled.items()}
        yield Sample(
            id=_id(row, id, place),
            fields={name: cells.text(column) for name, column in named.items()},
            images=seen,
            answer=reply,
            references=tuple(cells.texts(listed)) if listed else given,
            choices=tuple(cells.texts(choices)) if choices else (),
            cluster=str(label) if label is not None else None,
            groups={name: text for name, text in labels.items() if text},
            alternatives={name: tuple(cells.texts(column)) for name, column in others.items()},
        )


def rows(
    root: Path,
    files: str | list[str],
    *,
    columns: Iterable[str],
    checked: Collection[str] = (),
    images: str | list[str] = "image",
    where: Mapping[str, Any] | None = None,
    join: Mapping[str, Any] | None = None,
) -> Iterator[tuple[str, dict[str, Any], Images]]:
    """(place for messages, the columns by name, images) of each row of the files.

    checked: columns of which what is inside must be there too, where `columns` may lack it in any row.
    where: column: value, for the rows that belong to the split. join: {files, on, id}: the images
    stand in other files, in the row whose `id` equals this row's column `on`.
    """
    shown = [images] if isinstance(images, str) else list(images)
    joined = _Joined.read(root, join, shown) if join is not None else None
    own = [] if joined else shown
    found = False
    for path in shards(root, files):
        file = parquetfile.open_file(path)
        wanted = {*columns, *(where or {}), *([joined.on] if joined else [])}
        _check_columns(file, path, {*wanted, *own}, checked)
        number = 0
        for group in range(file.num_row_groups):
            places = _Places(file, path, group, own)
            for index, row in enumerate(_rows(file, path, group, wanted)):
                place = f"{path}, row {number}"
                number += 1
                if any(at(row, column) != value for column, value in (where or {}).items()):
                    continue
                found = True
                yield place, row, joined.of(row, place) if joined else places.images(index)
    if where and not found:
        raise DataError(f"no row has {where}", where=root)


def at(row: Mapping[str, Any], column: str | None) -> Any:
    """The value of a column; `a.b` is b inside a, of each item where a is a list; `a.0` its first."""
    value: Any = row
    for step in (column or "").split("."):
        if isinstance(value, list) and step.isdecimal():
            value = value[int(step)] if int(step) < len(value) else None
        elif isinstance(value, list):
            value = [item.get(step) if isinstance(item, Mapping) else None for item in value]
        else:
            value = value.get(step) if isinstance(value, Mapping) else None
    return value


@dataclass(frozen=True, slots=True)
class _Cells:
    """The columns of a row as texts. Raises DataError, with the row, for a cell that holds something else."""

    row: Mapping[str, Any]
    place: str

    def text(self, column: str) -> str:
        """An empty cell is an empty text."""
        value = at(self.row, column)
        return "" if value is None else self._one(value, column)

    def texts(self, column: str) -> list[str]:
        """None, one, or those of a list."""
        value = at(self.row, column)
        if value is None:
            return []
        return [self._one(each, column) for each in (value if isinstance(value, list) else [value])]

    def _one(self, value: Any, column: str) -> str:
        if isinstance(value, (list, Mapping, bytes)):
            kinds = {list: "a list", dict: "a structure", bytes: "bytes"}
            raise DataError(
                f"the column {column!r} holds {kinds.get(type(value), 'no text')} where a text is wanted",
                where=self.place,
                hint="`a.b` names the column b inside a, `a.0` the first of a list",
            )
        return str(value)


def _columns(template: str) -> list[str]:
    """The columns that an id is made of: itself, or those in braces."""
    named = [name for _, name, _, _ in Formatter().parse(template) if name]
    return named or [template]


def _id(row: Mapping[str, Any], template: str, where: str) -> str:
    values = {column: at(row, column) for column in _columns(template)}
    for column, value in values.items():
        if value is None or value == "":
            raise DataError(f"the row has no id in its column {column!r}", where=where)
    return template.format(**values) if "{" in template else str(values[template])


class _Places:
    """Where the images of one row group stand; the bytes themselves are not read if it can be helped."""

    def __init__(self, file: Any, path: Path, group: int, columns: Sequence[str]):
        self.path, self.group = path, group
        # Per column: how many images the rows hold, None = one each.
        self.counts = {column: _counts(file, path, group, column) for column in columns}

    def images(self, row: int) -> Images:
        """Those of one row, column by column."""
        return tuple(self._images(row))

    def _images(self, row: int) -> Iterator[Image]:
        for column, counts in self.counts.items():
            held = counts[row] if counts is not None else None
            if held is None:
                yield self._image(column, row)
            else:
                for item in range(max(held, 0)):
                    yield self._image(column, row, item)

    def _image(self, column: str, row: int, item: int | None = None) -> Image:
        return Image(str(self.path), member=parquetfile.member(column, self.group, row, item))


def _counts(file: Any, path: Path, group: int, column: str) -> list[int | None] | None:
    """None where every row holds one image; else per row None = one, or the length of its list."""
    meta = file.metadata.row_group(group)
    for number in range(meta.num_columns):
        chunk = meta.column(number)
        # The footer knows how many cells are empty, so that the images need not be read for it.
        if chunk.path_in_schema == f"{column}.bytes" and chunk.statistics is not None:
            empty = chunk.statistics.null_count if chunk.statistics.has_null_count else None
            if empty == 0:
                return None
            if empty == meta.num_rows:
                return [0] * meta.num_rows
    held: list[int | None] = []
    parquetfile.require_bounded(file, path, group, column)
    try:
        cells = file.read_row_group(group, columns=[column], use_threads=False).column(0)
    except (OSError, ValueError) as error:
        raise parquetfile.damaged(path, error) from None
    for cell in cells:
        if not cell.is_valid:
            held.append(0)
        elif isinstance(cell, (pa.ListScalar, pa.LargeListScalar)):
            held.append(len(cell))
        elif isinstance(cell, pa.StructScalar) and "bytes" in cell:
            held.append(None if cell["bytes"].is_valid else 0)
        elif pa.types.is_binary(cell.type) or pa.types.is_large_binary(cell.type):
            held.append(None)
        else:
            raise DataError(
                f"the column {column!r} holds {cell.type} where images are wanted",
                where=path,
                hint="the repository has changed, or is another one than the task's file describes",
            )
    return held


@dataclass(frozen=True)
class _Joined:
    """Images that stand in files of their own, by the id of their row there."""

    on: str
    by_id: Mapping[str, Images]

    @classmethod
    def read(cls, root: Path, join: Mapping[str, Any], columns: Sequence[str]) -> _Joined:
        if set(join) != {"files", "on", "id"}:
            raise ConfigError(f"`join` takes files, on and id, not {', '.join(sorted(join))}")
        key = str(join["id"])
        by_id: dict[str, Images] = {}
        for path in shards(root, join["files"]):
            file = parquetfile.open_file(path)
            _check_columns(file, path, {key, *columns})
            for group in range(file.num_row_groups):
                places = _Places(file, path, group, columns)
                for number, row in enumerate(_rows(file, path, group, {key})):
                    by_id[str(at(row, key))] = places.images(number)
        return cls(str(join["on"]), by_id)

    def of(self, row: Mapping[str, Any], where: str) -> Images:
        key = str(at(row, self.on))
        if key not in self.by_id:
            raise DataError(
                f"there is no image with the id {key!r}, which the row names in {self.on!r}",
                where=where,
                hint="questions and images must be of the same split",
            )
        return self.by_id[key]


def _rows(file: Any, path: Path, group: int, columns: set[str]) -> Iterator[dict[str, Any]]:
    """The rows of a row group as dictionaries, only the top-level columns that are wanted."""
    tops = sorted({column.partition(".")[0] for column in columns})
    for top in tops:
        parquetfile.require_bounded(file, path, group, top)
    batches = file.iter_batches(
        batch_size=BATCH, row_groups=[group], columns=tops, use_threads=False
    )
    while True:
        try:
            batch = next(batches, None)
        except (OSError, ValueError) as error:
            raise parquetfile.damaged(path, error) from None
        if batch is None:
            return
        yield from batch.to_pylist()


def _check_columns(file: Any, path: Path, columns: set[str], checked: Collection[str] = ()) -> None:
    schema = file.schema_arrow
    for column in sorted(columns):
        top, *inner = column.split(".")
        known = list(schema.names)
        lacking = top not in known
        if not lacking:
            inner = inner if column in checked else []
            known = [f"{top}.{name}" for name in _lacking(schema.field(top).type, inner)]
        if lacking or known:
            raise UnknownName(
                "column", column, known, where=path,
                hint="the repository has changed, or is another one than the task's file describes",
            )  # fmt: skip


def _lacking(kind: Any, steps: Sequence[str]) -> list[str]:
    """The columns there are in the place of the first of these steps that is none; none where all are."""
    for place, step in enumerate(steps):
        if pa.types.is_list(kind) or pa.types.is_large_list(kind):
            kind = kind.value_type
            if step.isdecimal():
                continue
        if pa.types.is_null(kind):
            return []  # no row holds anything there, as where answers are hidden
        if not pa.types.is_struct(kind):
            return [".".join(steps[:place]) or "(nothing inside)"]
        names = [kind.field(number).name for number in range(kind.num_fields)]
        if step not in names:
            return [".".join((*steps[:place], name)) for name in names]
        kind = kind.field(step).type
    return []


def _named(columns: list[str] | dict[str, str]) -> dict[str, str]:
    return dict(columns) if isinstance(columns, Mapping) else {name: name for name in columns}
