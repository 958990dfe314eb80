"""Arrow files as `datasets` saves them: mapped, checked, and read a record batch at a time."""

from __future__ import annotations

import os
import struct
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

from emu2eval.errors import DataError, ImageError, MissingExtra
from emu2eval.media.parquetfile import encoded
from emu2eval.media.remembered import State, state_of
from emu2eval.types import Image

PREFIX = "arrow:"
_lock = Lock()


def member(column: str, batch: int, row: int, item: int | None = None) -> str:
    """The name of a cell: column, record batch, row within it; item: of a list of images.

    >>> member("image", 3, 17)
    'arrow:image/3/17'
    """
    return f"{PREFIX}{column}/{batch}/{row}" + (f"/{item}" if item is not None else "")


def batches(path: str | Path) -> list[Any]:
    """Its record batches, at least one; their buffers stay in the file.

    Raises DataError, or MissingExtra without pyarrow.
    """
    try:
        stat = os.stat(path)  # noqa: PTH116
        return _opened(str(path), state_of(stat))
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # Arrow's own errors are kinds of ValueError and OSError
        raise DataError(
            f"the arrow file is truncated or damaged ({' '.join(str(error).split())[:200]})",
            where=path,
            hint="save or download it again",
        ) from None


@lru_cache(maxsize=16)
def _opened(path: str, state: State) -> list[Any]:
    try:
        import pyarrow as pa
    except ModuleNotFoundError:
        raise MissingExtra("pyarrow", "data", why="reading arrow files") from None
    with pa.memory_map(path) as mapped:
        whole = mapped.read_buffer()
    is_file = whole[:6].to_pybytes() == b"ARROW1"
    _refuse_packed(pa, whole[8:] if is_file else whole, path)
    if is_file:
        reader = pa.ipc.open_file(pa.BufferReader(whole))
        found = [reader.get_batch(number) for number in range(reader.num_record_batches)]
    else:
        # Such a file ends in a mark; one that was cut between two batches would be read as whole.
        if whole[-8:].to_pybytes() != _END:
            raise ValueError("its end is missing")
        reader = pa.ipc.open_stream(pa.BufferReader(whole))
        found = list(reader)
    found = found or [reader.schema.empty_table().to_batches()[0]]
    for batch in found:
        # Offsets that point outside would be followed: they are looked at before anything else is.
        batch.validate(full=True)
    return found


_END = b"\xff\xff\xff\xff\0\0\0\0"


def _refuse_packed(pa: Any, whole: Any, path: str) -> None:
    """Raises DataError for compressed batches: nothing says how large they become; `datasets` writes none."""
    messages = pa.ipc.MessageReader.open_stream(pa.BufferReader(whole))
    while True:
        try:
            message = messages.read_next_message()
        except StopIteration:
            return
        if message.type in ("record batch", "dictionary") and _packed(
            message.metadata.to_pybytes()
        ):
            raise DataError(
                "the arrow file is compressed",
                where=path,
                hint="write it again without compression: pyarrow.ipc.IpcWriteOptions(compression=None)",
            )


def _packed(flat: bytes) -> bool:
    """Whether a message's RecordBatch names a compression (format/Message.fbs of Arrow).

    A flatbuffer's table begins with the way back to its list of places of fields, 0 for one that is absent.
    """
    try:
        (root,) = struct.unpack_from("<I", flat, 0)
        (kind,) = struct.unpack_from("<B", flat, root + _field(flat, root, 1))
        batch = _follow(flat, root, 2)
        if kind == _DICTIONARY:
            batch = _follow(flat, batch, 1)
        return _field(flat, batch, 3) != 0
    except struct.error:
        raise ValueError("a message is damaged") from None


_DICTIONARY = 2


def _follow(flat: bytes, table: int, number: int) -> int:
    at = table + _field(flat, table, number)
    return at + int(struct.unpack_from("<I", flat, at)[0])


def _field(flat: bytes, table: int, number: int) -> int:
    """Where in a table its field stands; 0 where it is absent."""
    (back,) = struct.unpack_from("<i", flat, table)
    places = table - back
    (size,) = struct.unpack_from("<H", flat, places)
    at = 4 + 2 * number
    return int(struct.unpack_from("<H", flat, places + at)[0]) if at < size else 0


def image(path: str | Path, column: str, batch: int, row: int, item: int | None) -> Image:
    return Image(str(path), member=member(column, batch, row, item))


def read_cell(path: str, name: str) -> bytes:
    """The encoded image in a cell, by the cell's `member` name. Raises ImageError or DataError."""
    where = f"{path}#{name}"
    column, batch, row, *item = name.removeprefix(PREFIX).rsplit(
        "/", 3 if name.count("/") > 2 else 2
    )
    try:
        with _lock:
            cell = batches(path)[int(batch)].column(column)[int(row)]
        value = cell.values[int(item[0])].as_py() if item else cell.as_py()
    except FileNotFoundError:
        raise ImageError("the arrow file with this image does not exist", where=where) from None
    except (OSError, ValueError, LookupError) as error:
        raise ImageError(f"the image cannot be read ({error})", where=where) from None
    return encoded(value, where)
