"""Parquet files: columns mapped to samples, images left where they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from emu2eval.data import arrowcells
from emu2eval.data.arrowcells import Columns
from emu2eval.data.columns import FileOptions, columns_of_images
from emu2eval.data.own import samples
from emu2eval.data.rows import DataRow
from emu2eval.data.shards import shards
from emu2eval.errors import DataError, UnknownName
from emu2eval.media import parquetfile
from emu2eval.spec.settings import Settings
from emu2eval.types import Image, Sample

BATCH = 1024
"""Rows held at a time, without their images."""


class JoinOptions(Settings):
    """Images that stand in files of their own."""

    files: Annotated[str | list[str], Meta(description="paths or patterns of these files")]
    on: Annotated[str, Meta(description="the column that refers to the row with its images")]
    id: Annotated[str, Meta(description="the column there that it refers to")]


class ParquetOptions(FileOptions):
    """Parquet files, the hub's among them. Names of classes are read from what `datasets` wrote into them."""

    join: Annotated[
        JoinOptions | None,
        Meta(description="for images in separate parquet files: {files, on, id}"),
    ] = None


def read(root: Path, options: ParquetOptions) -> Iterator[Sample]:
    """Rows of the parquet files as samples; every option names a column."""
    return samples(_Files(root, options), options, root)


@dataclass(frozen=True)
class _Files:
    root: Path
    options: ParquetOptions

    @cached_property
    def paths(self) -> list[Path]:
        return shards(self.root, self.options.files)

    def rows(self) -> Iterator[DataRow]:
        join = self.options.join
        shown = columns_of_images(self.options)
        joined = Joined.read(self.root, join, shown) if join is not None else None
        for path in self.paths:
            file = parquetfile.open_file(path)
            schema = file.schema_arrow
            found = arrowcells.features(schema)
            columns = Columns(schema, path, self.options, found, join is not None)
            texts = columns.texts if joined is None else sorted({*columns.texts, joined.top})
            for row in file_rows(file, path, texts, columns.images):
                cells = columns.named(dict(row.cells), row.where)
                if joined is not None:
                    cells |= joined.of(row)
                yield DataRow(row.where, cells)

    def classes(self, column: str) -> Sequence[str]:
        file = parquetfile.open_file(self.paths[0])
        return arrowcells.classes(arrowcells.features(file.schema_arrow), column)


def rows(
    root: Path, files: str | Sequence[str], columns: Sequence[str], images: Sequence[str] = ()
) -> Iterator[DataRow]:
    """The rows of all files of some patterns, see `file_rows`."""
    for path in shards(root, files):
        yield from file_rows(parquetfile.open_file(path), path, columns, images)


def file_rows(
    file: Any, path: Path, columns: Sequence[str], images: Sequence[str]
) -> Iterator[DataRow]:
    """The rows of a file, a row group at a time: columns at the top by name, and those of images.

    Raises UnknownName for a column that is not there, DataError for a damaged file.
    """
    names = file.schema_arrow.names
    for column in (*columns, *images):
        if column not in names:
            raise UnknownName("column", column, names, where=path, hint=_CHANGED)
    number = 0
    for group in range(file.num_row_groups):
        shown = {column: _pictures(file, path, group, column) for column in images}
        for index, cells in enumerate(_cells(file, path, group, columns)):
            for column, pictures in shown.items():
                cells[column] = pictures[index]
            yield DataRow(f"{path}, row {number}", cells)
            number += 1


_CHANGED = "the repository has changed, or is not the one that the task file describes"


def _pictures(file: Any, path: Path, group: int, column: str) -> Sequence[Any]:
    """The images of a row group; the bytes themselves are not read if it can be helped."""

    def point(row: int, item: int | None) -> Image:
        return Image(str(path), member=parquetfile.member(column, group, row, item))

    parquetfile.require_bounded(file, path, group, column)
    meta = file.metadata.row_group(group)
    for number in range(meta.num_columns):
        chunk = meta.column(number)
        # The footer knows how many cells are empty, so that the images need not be read for it.
        known = chunk.statistics if chunk.path_in_schema == f"{column}.bytes" else None
        if known is not None and known.has_null_count and known.null_count == 0:
            return [point(row, None) for row in range(meta.num_rows)]
    try:
        held = file.read_row_group(group, columns=[column], use_threads=False).column(0)
    except (OSError, ValueError) as error:
        raise parquetfile.damaged(path, error) from None
    return arrowcells.pictures(held, point, column, path)


def _cells(file: Any, path: Path, group: int, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows of a row group as dictionaries."""
    if not columns:
        yield from ({} for _ in range(file.metadata.row_group(group).num_rows))
        return
    for column in columns:
        parquetfile.require_bounded(file, path, group, column)
    batches = file.iter_batches(
        batch_size=BATCH, row_groups=[group], columns=list(columns), use_threads=False
    )
    while True:
        try:
            batch = next(batches, None)
            found = batch.to_pylist() if batch is not None else None
        except (OSError, ValueError) as error:
            raise parquetfile.damaged(path, error) from None
        if found is None:
            return
        yield from found


@dataclass(frozen=True)
class Joined:
    """Images that stand in files of their own, by the id of their row there."""

    on: str
    by_id: Mapping[str, Mapping[str, Any]]

    @property
    def top(self) -> str:
        return self.on.partition(".")[0]

    @classmethod
    def read(cls, root: Path, join: JoinOptions, columns: Sequence[str]) -> Joined:
        by_id: dict[str, Mapping[str, Any]] = {}
        key = join.id.partition(".")[0]
        for path in shards(root, join.files):
            for row in file_rows(parquetfile.open_file(path), path, [key], columns):
                name = row.text(join.id, "join.id")
                by_id[name] = {column: row.cells[column] for column in columns}
        return cls(join.on, by_id)

    def of(self, row: DataRow) -> Mapping[str, Any]:
        key = row.text(self.on, "join.on")
        if key not in self.by_id:
            raise DataError(
                f"there is no image with the id {key!r}, which the row refers to in {self.on!r}",
                where=row.where,
                hint="questions and images must be of the same split",
            )
        return self.by_id[key]
