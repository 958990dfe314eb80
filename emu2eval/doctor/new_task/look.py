"""A look at somebody's data: which reader fits, which files are which split, and some rows of it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from emu2eval import registry
from emu2eval.data import textrows, webdataset
from emu2eval.data.shards import shards
from emu2eval.errors import DataError, MissingData
from emu2eval.media import suffixes

LOOKED_AT = 200
"""Rows; image bytes among them, so few of parquet and arrow."""
_OF_ARROW = 50
_DEEPEST, _MOST = 3, 20_000
"""Folders below, and entries, that are looked through."""

_SPLIT = re.compile(
    r"(?:^|[-_./ ])(train|training|val|valid|validation|dev|test|testing|testdev)(?=[-_./ 0-9]|$)",
    re.I,
)
_NAMED = {"training": "train", "valid": "val", "validation": "val", "testing": "test"}
_READERS = {
    "parquet": ("parquet",),
    "webdataset": ("tar",),
    "table": ("csv", "tsv", "jsonl", "ndjson", "json"),
    "datasets": ("arrow",),
}


@dataclass(frozen=True)
class Look:
    """root: the folder that the task names; files: by split, relative to it, `""` where nothing says which;
    rows: some of the first, as they are; classes: names of classes, by column; notes: what was seen."""

    reader: str
    root: Path
    files: Mapping[str, Sequence[str]] = field(default_factory=dict)
    rows: Sequence[Mapping[str, Any]] = ()
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    inside: str | None = None
    notes: tuple[str, ...] = ()


def look(path: Path) -> Look:
    """Raises MissingData where nothing is there, DataError where no reader fits."""
    if path.is_file():
        reader = next((r for r, kinds in _READERS.items() if suffixes.of(path.name) in kinds), None)
        if reader is None:
            raise _no_reader(
                path, f"a file with the extension .{suffixes.of(path.name) or '(none)'}"
            )
        return _with_rows(Look(reader, path.parent, {"": [path.name]}))
    if not path.is_dir():
        raise MissingData("no such file or folder", where=path)
    if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
        return _with_rows(_saved(path))
    there = list(islice(_files(path), _MOST))
    for reader, endings in _READERS.items():
        found = [name for name in there if suffixes.of(name) in endings and not _no_data(name)]
        if found:
            return _with_rows(Look(reader, path, _by_split(found), notes=_strays(found)))
    images = [name for name in there if suffixes.of(name) in suffixes.IMAGES]
    if images and not any("/" in name for name in images):
        raise DataError(
            "the images are not in class folders, and no file contains answers",
            where=path,
            hint="use one folder per class, or add a table such as metadata.csv with the columns file_name, "
            "question, answer",
        )
    if images:
        return Look("image-folder", path)
    kinds = sorted({f".{suffixes.of(name)}" for name in there if suffixes.of(name)})[:8]
    raise _no_reader(path, f"files with the extensions {', '.join(kinds)}" if kinds else "no files")


def _no_reader(path: Path, there: str) -> DataError:
    return DataError(
        f"no reader is available for {there}",
        where=path,
        hint="supported: tables (.csv, .tsv, .jsonl, .json), .parquet, `datasets` folders, webdataset .tar "
        "shards and image folders (docs/how-to/own-data.md); for your own reader, give "
        "module:attr",
    )


def _files(top: Path) -> Iterator[str]:
    """The paths of files below a folder, relative to it, sorted; hidden ones left out."""
    waiting = [(top, 0)]
    while waiting:
        folder, depth = waiting.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            continue
        inner = []
        for entry in entries:
            if entry.name.startswith((".", "__MACOSX")):
                continue
            if entry.is_dir():
                inner.append((Path(entry.path), depth + 1))
            else:
                yield Path(entry.path).relative_to(top).as_posix()
        waiting += reversed([each for each in inner if each[1] <= _DEEPEST])


_ASIDE = frozenset({"dataset_info", "dataset_infos", "state", "package", "config", "metadata"})


def _no_data(name: str) -> bool:
    return name.rpartition("/")[2].rpartition(".")[0].lower() in _ASIDE


def _by_split(found: Sequence[str]) -> dict[str, list[str]]:
    """The files by what their names say of a split; all under "" where not every one says it."""
    by: dict[str, list[str]] = {}
    for name in found:
        told = _SPLIT.findall(name.rpartition(".")[0])
        split = _NAMED.get(told[-1].lower(), told[-1].lower()) if told else ""
        by.setdefault(split, []).append(name)
    if "" in by and len(by) > 1:
        del by[""]
    return by


def _strays(found: Sequence[str]) -> tuple[str, ...]:
    used = {name for names in _by_split(found).values() for name in names}
    left = [name for name in found if name not in used]
    return (
        (f"ignored, because their names contain no split: {', '.join(left[:5])}",) if left else ()
    )


def _saved(path: Path) -> Look:
    from emu2eval.data.datasets_folder import splits_of

    return Look("datasets", path, {split: [] for split in splits_of(path) or [""]})


def distinct(found: Look, column: str, most: int) -> set[str]:
    """The values of a column in all rows, no more than one above `most`."""
    options: dict[str, Any] = {
        "id": False,
        "images": False,
        "answer": False,
        "fields": {"v": column},
    }
    files = [name for names in found.files.values() for name in names]
    values: set[str] = set()
    for sample in registry.build(
        "reader", found.reader, options | {"files": files}, given=(found.root,)
    ):
        values.add(sample.fields["v"])
        if len(values) > most:
            break
    return values


def read_again(found: Look) -> Look:
    """With the rows of the split that is now the first."""
    return _with_rows(found)


def _with_rows(found: Look) -> Look:
    return replace(found, **_READ[found.reader](found))


def first(found: Look) -> str:
    """The split that rows are looked at in: that which is asked about."""
    return next(
        (s for s in ("test", "val", "dev", "testdev") if s in found.files), next(iter(found.files))
    )


def _paths(found: Look) -> list[Path]:
    return [found.root / name for name in found.files[first(found)]]


def _table(found: Look) -> dict[str, Any]:
    rows = [dict(row.cells) for row in islice(textrows.rows(_paths(found)[0]), LOOKED_AT)]
    return {"rows": rows}


def _parquet(found: Look) -> dict[str, Any]:
    from emu2eval.data import arrowcells
    from emu2eval.media import parquetfile

    path = _paths(found)[0]
    file = parquetfile.open_file(path)
    if file.num_row_groups:
        for column in file.schema_arrow.names:
            parquetfile.require_bounded(file, path, 0, column)
    try:
        batch = next(iter(file.iter_batches(batch_size=_OF_ARROW, use_threads=False)), None)
    except (OSError, ValueError) as error:
        raise parquetfile.damaged(path, error) from None
    return _arrow_rows(batch, arrowcells.features(file.schema_arrow))


def _arrow(found: Look) -> dict[str, Any]:
    from emu2eval.data.columns import SplitOptions
    from emu2eval.data.datasets_folder import ArrowFolder, DatasetsOptions
    from emu2eval.media import arrowfile

    files: Any = list(found.files[first(found)]) or ""
    options = DatasetsOptions(files=files, split=SplitOptions(name=first(found)))
    folder = ArrowFolder(found.root, options)
    batch = arrowfile.batches(folder.paths[0])[0].slice(0, _OF_ARROW)
    return _arrow_rows(batch, folder.features)


def _arrow_rows(batch: Any, features: Mapping[str, Any]) -> dict[str, Any]:
    from emu2eval.data import arrowcells

    rows = batch.to_pylist() if batch is not None else []
    names = batch.schema.names if batch is not None else []
    classes = {column: arrowcells.classes(features, column) for column in names}
    return {"rows": rows, "classes": {column: each for column, each in classes.items() if each}}


def _shards(found: Look) -> dict[str, Any]:
    (path, *_) = shards(found.root, list(found.files[first(found)]))
    return {"rows": [dict(row.cells) for row in islice(webdataset.shard_rows(path), LOOKED_AT)]}


_READ: dict[str, Callable[[Look], dict[str, Any]]] = {
    "table": _table,
    "parquet": _parquet,
    "datasets": _arrow,
    "webdataset": _shards,
}
