"""Folders of the library `datasets`, as `save_to_disk` leaves them. They are read without it, by pyarrow.

The library itself would write locks and caches beside them, and reads images by code of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from emu2eval.data import arrowcells
from emu2eval.data.arrowcells import Columns
from emu2eval.data.columns import RowOptions
from emu2eval.data.jsonfile import parse
from emu2eval.data.own import samples
from emu2eval.data.paths import inside
from emu2eval.data.rows import DataRow
from emu2eval.data.shards import shards
from emu2eval.errors import DataError, MissingData, UnknownName
from emu2eval.media import arrowfile
from emu2eval.types import Image, Sample

_MANY, _STATE, _INFO = "dataset_dict.json", "state.json", "dataset_info.json"


class DatasetsOptions(RowOptions):
    """A folder written by `save_to_disk` of `datasets`, with one or several splits."""

    files: Annotated[
        str | list[str],
        Meta(
            description="paths or patterns of .arrow files below `data.root`; absent = the files listed in "
            "the folder (of the split with this name, if there are several)"
        ),
    ] = ""


def read(root: Path, options: DatasetsOptions) -> Iterator[Sample]:
    """Rows of `save_to_disk` folders (.arrow files) as samples; every option names a column."""
    return samples(ArrowFolder(root, options), options, root)


def splits_of(root: Path) -> list[str]:
    """The splits that a folder holds; none where it is one."""
    if not (root / _MANY).is_file():
        return []
    found = parse(root / _MANY, dict[str, Any]).get("splits")
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise DataError("it lists no splits", where=root / _MANY)
    return found


@dataclass(frozen=True)
class ArrowFolder:
    root: Path
    options: DatasetsOptions

    @cached_property
    def folder(self) -> Path:
        """That of the split."""
        splits = splits_of(self.root)
        own = self.options.split
        if not splits:
            return self.root
        if own.column is not None or own.draw:
            if len(splits) == 1:
                return inside(self.root, splits[0], where=str(self.root / _MANY))
            raise DataError(
                f"the folder already has the splits {', '.join(splits)}, so there is nothing to "
                "select or draw",
                where=self.root,
                hint="to draw from one of them, set data.root to it, such as root: FOLDER/train",
            )
        if own.name not in splits:
            raise UnknownName(
                "split",
                own.name,
                splits,
                where=self.root,
                hint=f"`splits: {{{own.name or 'test'}: {{split: {{name: {splits[0]}}}}}}}` says how it is "
                "called there",
                of="the folder",
            )
        return inside(self.root, own.name, where=str(self.root / _MANY))

    @cached_property
    def paths(self) -> list[Path]:
        if self.options.files:
            return shards(self.root, self.options.files)
        if not (self.folder / _STATE).is_file():
            raise MissingData(
                f"not a folder written by `save_to_disk`: it has no {_STATE}",
                where=self.folder,
                hint="set `data.root` to the folder; for other arrow files: `files: '*.arrow'`",
            )
        state = parse(self.folder / _STATE, dict[str, Any])
        if state.get("_indices_data_files"):
            raise DataError(
                "the folder stores a selection of rows separately, as old versions of `datasets` did",
                where=self.folder,
                hint="save it again: load_from_disk(…).flatten_indices().save_to_disk(…)",
            )
        listed = state.get("_data_files")
        names = [each.get("filename") for each in listed] if isinstance(listed, list) else []
        if not names or not all(isinstance(name, str) for name in names):
            raise DataError("it names no data files", where=self.folder / _STATE)
        found = [inside(self.folder, name, where=str(self.folder / _STATE)) for name in names]
        lost = next((path for path in found if not path.is_file()), None)
        if lost is not None:
            raise MissingData(
                f"{lost.name} is missing", where=self.folder, hint="copy the whole folder again"
            )
        return found

    @cached_property
    def features(self) -> Mapping[str, Any]:
        path = self.paths[0].parent / _INFO
        info = parse(path, dict[str, Any]) if path.is_file() else None
        return arrowcells.features(arrowfile.batches(self.paths[0])[0].schema, info)

    def classes(self, column: str) -> Sequence[str]:
        return arrowcells.classes(self.features, column)

    def rows(self) -> Iterator[DataRow]:
        for path in self.paths:
            number = 0
            for place, batch in enumerate(arrowfile.batches(path)):
                columns = Columns(batch.schema, path, self.options, self.features)
                for cells in _cells(batch, place, columns):
                    where = f"{path}, row {number}"
                    yield DataRow(where, columns.named(cells, where))
                    number += 1


_AT_ONCE = 1024


def _cells(batch: Any, place: int, columns: Columns) -> Iterator[dict[str, Any]]:
    shown = {}
    for name in columns.images:

        def point(row: int, item: int | None, name: str = name) -> Image:
            return arrowfile.image(columns.path, name, place, row, item)

        shown[name] = arrowcells.pictures(batch.column(name), point, name, columns.path)
    texts = batch.select(columns.texts) if columns.texts else None
    for start in range(0, batch.num_rows, _AT_ONCE):
        part = texts.slice(start, _AT_ONCE).to_pylist() if texts is not None else None
        for number in range(start, min(start + _AT_ONCE, batch.num_rows)):
            cells = part[number - start] if part is not None else {}
            for name, pictures in shown.items():
                cells[name] = pictures[number]
            yield cells
