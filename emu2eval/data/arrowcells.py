"""What tables of Arrow share, in parquet files and in folders of `datasets`: columns, classes, images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from emu2eval.data.columns import RowOptions, columns_named, columns_of_images
from emu2eval.data.embedded import is_base64
from emu2eval.errors import DataError, UnknownName
from emu2eval.types import Image

Point = Callable[[int, int | None], Image]
"""The image in a row of a block of rows; of a list its item."""


@dataclass(frozen=True)
class Columns:
    """What of a file is read for the options: columns, and those of them that hold images.

    features: what `datasets` says of the columns, where it wrote the file. apart: images stand elsewhere.
    """

    schema: Any
    path: Path
    options: RowOptions
    features: Mapping[str, Any]
    apart: bool = False

    @cached_property
    def images(self) -> list[str]:
        """Raises UnknownName for one that is not there."""
        named = [] if self.apart else columns_of_images(self.options)
        return [self._known(column, "images") for column in named]

    @cached_property
    def texts(self) -> list[str]:
        """Sorted names at the top. Raises UnknownName."""
        found = {self._known(c, option) for c, option in columns_named(self.options).items()}
        usual = {"id", "answer"} if self.options.id is None else {"answer"}
        found |= usual & set(self.schema.names)
        if self.options.answer is None and self.options.references is None:
            found.add(self._known("answer", "answer"))
        if self.options.fields is None:
            found |= {field.name for field in self.schema if _plain(field.type)}
        return sorted(found - set(self.images))

    @cached_property
    def labelled(self) -> list[str]:
        """Columns in which the name of a class stands as its number."""
        return [each for each in self.texts if _has_classes(self.features.get(each))]

    def _known(self, column: str, option: str) -> str:
        names = list(self.schema.names)
        top = column if column in names else column.partition(".")[0]
        if top not in names:
            raise UnknownName(
                "column",
                column,
                names,
                where=self.path,
                hint=f"set `{option}` in the reader's options; available columns: "
                f"{', '.join(names)}"
                + ("; `answer: false` where answers are hidden" if option == "answer" else ""),
            )
        return top

    def named(self, cells: dict[str, Any], where: str) -> dict[str, Any]:
        """The cells with the names of classes in place of their numbers."""
        for column in self.labelled:
            cells[column] = _named(cells[column], self.features[column], column, where)
        return cells


def features(schema: Any, info: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
    """What `datasets` says of each column: in the file itself, else in its dataset_info.json."""
    text = (schema.metadata or {}).get(b"huggingface")
    if text is not None:
        with suppress(ValueError, LookupError, TypeError, RecursionError):  # damaged, or of another
            info = msgspec.json.decode(text)["info"]
    found = info.get("features") if isinstance(info, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def classes(found: Mapping[str, Any], column: str) -> Sequence[str]:
    """The names of the classes of a column, `a.b` for one inside another; none where it has none."""
    feature: Any = found
    for step in column.split("."):
        feature = _inner(feature)
        if not (isinstance(feature, Mapping) and step in feature):
            return () if not step.isdecimal() else classes_of(feature)
        feature = feature[step]
    return classes_of(_inner(feature))


def classes_of(feature: Any) -> Sequence[str]:
    if isinstance(feature, Mapping) and feature.get("_type") == "ClassLabel":
        names = feature.get("names")
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            return names
    return ()


def _inner(feature: Any) -> Any:
    """What stands in a list."""
    while isinstance(feature, list) and len(feature) == 1:
        feature = feature[0]
    while isinstance(feature, Mapping) and feature.get("_type") in _LISTS:
        feature = feature.get("feature")
    return feature


_LISTS = ("Sequence", "List", "LargeList")


def _has_classes(feature: Any) -> bool:
    feature = _inner(feature)
    if classes_of(feature):
        return True
    return isinstance(feature, Mapping) and any(
        _has_classes(inner) for inner in feature.values() if isinstance(inner, Mapping | list)
    )


def _named(value: Any, feature: Any, column: str, where: str) -> Any:
    if isinstance(value, list):
        return [_named(each, feature, column, where) for each in value]
    feature = _inner(feature)
    names = classes_of(feature)
    if names and isinstance(value, int) and not isinstance(value, bool):
        if value == -1:
            return None  # what `datasets` writes where there is no label
        if not 0 <= value < len(names):
            raise DataError(
                f"the column {column!r} contains the class {value}, but there are {len(names)} classes",
                where=where,
            )
        return names[value]
    if isinstance(value, Mapping) and isinstance(feature, Mapping):
        return {k: _named(v, feature.get(k), f"{column}.{k}", where) for k, v in value.items()}
    return value


def pictures(column: Any, point: Point, name: str, path: Path) -> list[Any]:
    """The cells of a column of images, in place of bytes where they stand; a path stays a text.

    Raises DataError where the column holds something else.
    """
    kind = column.type
    if _listed(kind):
        return [
            [] if not cell.is_valid else _items(cell.values, point, number, name, path)
            for number, cell in enumerate(column)
        ]
    return list(_cells(column, point, name, path))


def _items(values: Any, point: Point, row: int, name: str, path: Path) -> list[Any]:
    return list(_cells(values, lambda item, _: point(row, item), name, path))


def _cells(column: Any, point: Point, name: str, path: Path) -> Iterable[Any]:
    kind = column.type
    if pa.types.is_null(kind):
        return [None] * len(column)
    if pa.types.is_struct(kind):
        fields = {kind.field(number).name for number in range(kind.num_fields)}
        if "bytes" in fields or "path" in fields:
            return [_struct(cell, point, row) for row, cell in enumerate(column)]
    elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return [point(row, None) if cell.is_valid else None for row, cell in enumerate(column)]
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        texts = (cell.as_py() for cell in column)
        return [
            point(row, None) if text is not None and is_base64(text) else text
            for row, text in enumerate(texts)
        ]
    raise DataError(
        f"the column {name!r} contains {kind}, but images are expected",
        where=path,
        hint="name the image columns with `images` in the reader's options",
    )


def _struct(cell: Any, point: Point, row: int) -> Any:
    if not cell.is_valid:
        return None
    if "bytes" in cell and cell["bytes"].is_valid:
        return point(row, None)
    return cell["path"].as_py() if "path" in cell else None


def _listed(kind: Any) -> bool:
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _plain(kind: Any) -> bool:
    """Of texts, numbers, or true and false."""
    types = pa.types
    return any(
        holds(kind)
        for holds in (types.is_string, types.is_large_string, types.is_integer, types.is_floating)
    ) or bool(types.is_boolean(kind))
