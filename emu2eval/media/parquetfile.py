"""Images inside parquet files, read late: a row group at a time, of which a few stay in memory."""

from __future__ import annotations

import binascii
import os
from base64 import b64decode
from collections import OrderedDict
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

from emu2eval.errors import DataError, ImageError, MissingExtra
from emu2eval.media.remembered import State, state_of

KEPT_BYTES = 128 << 20
"""Row groups kept for the next image. One larger than that is kept alone."""

MOST_BYTES = 2 << 30
"""Of a column of a row group that packs better than images and texts do: Arrow unpacks it whole."""
_PACKED = 30
"""Times; what honest files hold packs less well, and takes the memory of its honest size."""

_Key = tuple[str, State, str, int]
_blocks: OrderedDict[_Key, tuple[Any, int]] = (
    OrderedDict()
)  # with its bytes, which are slow to add up
_lock = Lock()


def member(column: str, group: int, row: int, item: int | None = None) -> str:
    """The name of a cell: column, row group, row within it; item: of a list of images.

    >>> member("image", 3, 17)
    'image/3/17'
    """
    return f"{column}/{group}/{row}" + (f"/{item}" if item is not None else "")


def column(name: str) -> str:
    """The column of a cell by its name.

    >>> column(member("image_1", 3, 17))
    'image_1'
    """
    return name.partition("/")[0]


def open_file(path: str | Path) -> Any:
    """The file as a `pyarrow.parquet.ParquetFile`. Raises DataError, or MissingExtra without pyarrow."""
    try:
        stat = os.stat(path)  # noqa: PTH116
        return _opened(str(path), state_of(stat))
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # Arrow's own errors are kinds of ValueError and OSError
        raise damaged(path, error) from None


def damaged(path: str | Path, error: Exception) -> DataError:
    """The error for a file that Arrow cannot read."""
    return DataError(
        f"the parquet file is truncated or damaged ({error})",
        where=path,
        hint="remove it and run the same `hf download` again",
    )


def require_bounded(file: Any, path: str | Path, group: int, column: str) -> None:
    """Raises DataError where few bytes of a column (its name at the top) unpack to more than MOST_BYTES."""
    meta = file.metadata.row_group(group)
    size = packed = 0
    for chunk in (meta.column(number) for number in range(meta.num_columns)):
        try:
            name = chunk.path_in_schema
        except UnicodeDecodeError as error:
            raise damaged(path, error) from None
        if name.partition(".")[0] == column:
            size += chunk.total_uncompressed_size
            packed += chunk.total_compressed_size
    if size > max(MOST_BYTES, _PACKED * packed):
        raise DataError(
            f"the column {column!r} of row group {group} decompresses to {size / 2**30:,.1f} GiB",
            where=path,
            hint="write it again in smaller row groups: pyarrow.parquet.write_table(…, row_group_size=1000)",
        )


@lru_cache(maxsize=8)
def _opened(path: str, state: State) -> Any:
    try:
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise MissingExtra("pyarrow", "data", why="reading parquet files") from None
    return pyarrow.parquet.ParquetFile(path)


def read_cell(path: str, name: str) -> bytes:
    """The encoded image in a cell, by the cell's `member` name. Raises ImageError or DataError."""
    column, group, row, *item = name.split("/")
    where = f"{path}#{name}"
    try:
        value = _block(path, column, int(group))[int(row)].as_py()
    except FileNotFoundError:
        raise ImageError(
            "the parquet file with this image does not exist",
            where=where,
            hint="download it again; `hf download` continues where it stopped",
        ) from None
    except (OSError, ValueError, IndexError) as error:
        raise ImageError(f"the image cannot be read ({error})", where=where) from None
    if item and isinstance(value, list):
        value = value[int(item[0])]
    return encoded(value, where)


def encoded(value: Any, where: str) -> bytes:
    """The image's bytes that a cell holds: as bytes, in base64, or as {bytes}. Raises ImageError."""
    data = value.get("bytes") if isinstance(value, dict) else value
    if isinstance(data, str):
        try:
            text = data.partition(";base64,")[2] if data.startswith("data:") else data
            return b64decode("".join(text.split()), validate=True)
        except (binascii.Error, ValueError) as error:
            raise ImageError(f"the image is not base64: {error}", where=where) from None
    if not isinstance(data, bytes):
        raise ImageError("the cell does not contain image bytes", where=where)
    return data


def _block(path: str, column: str, group: int) -> Any:
    """One column of one row group."""
    with _lock:  # also since a ParquetFile is not to be read by two threads at once
        file = open_file(path)
        stat = os.stat(path)  # noqa: PTH116
        key = (path, state_of(stat), column, group)
        if key in _blocks:
            _blocks.move_to_end(key)
            return _blocks[key][0]
        require_bounded(file, path, group, column)
        block = file.read_row_group(group, columns=[column], use_threads=False).column(0)
        _blocks[key] = block, block.nbytes
        while len(_blocks) > 1 and sum(size for _, size in _blocks.values()) > KEPT_BYTES:
            _blocks.popitem(last=False)
        return block
