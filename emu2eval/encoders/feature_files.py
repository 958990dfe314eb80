"""Files of features: written whole or not at all, read with plain reads, never changed.

Another process may make one of several small ones and remove these at any time. A file that is mapped would
then, on a network's file system, end the process that looks at it (ESTALE, told as SIGBUS); a read fails, and
its features are in another file.
"""

from __future__ import annotations

import errno
import hashlib
import operator
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import get_ident
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from emu2eval.errors import DataError

Half = npt.NDArray[np.float16]
Stored = npt.NDArray[np.float16 | np.float32]

_LONGEST_HEAD = 1 << 16
_BLOCK = 1 << 24
_NEAR, _TOGETHER = 8, 8192
_ABANDONED = 24 * 3600.0
"""Seconds after which a file that another machine never finished is removed."""
_HOST = socket.gethostname().replace(".", "_")


class NotAsWritten(Exception):
    """A file is not as it was written."""


class Gone(Exception):
    """A file was removed since the folder was looked into."""


class FeatureFile:
    """One safetensors file, its checksum compared: digests (n, 32) in memory, features where they are.

    Raises NotAsWritten, Gone, or DataError where it cannot be read at all.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            with _reading(path), path.open("rb") as content:
                length = int.from_bytes(content.read(8), "little")
                if length > _LONGEST_HEAD:
                    raise NotAsWritten
                head = msgspec.json.decode(content.read(length), type=dict[str, Any])
                stated = head["__metadata__"]["sha256"]
                size = os.fstat(content.fileno()).st_size
                self.dtype: Any = np.float32 if path.name.startswith("exact-") else np.float16
                start, rows, width = _shape(head["digests"], np.uint8, 8 + length, size)
                self._start, self.rows, self.width = _shape(
                    head["features"], self.dtype, 8 + length, size
                )
                if width != 32 or rows != self.rows:
                    raise NotAsWritten
                total = hashlib.sha256()
                content.seek(start)
                self.digests = content.read(rows * 32)
                total.update(self.digests)
                content.seek(self._start)
                left = self._size(rows)
                while left and (block := content.read(min(left, _BLOCK))):
                    total.update(block)
                    left -= len(block)
        except (ValueError, KeyError, IndexError, TypeError, OverflowError, RecursionError):
            raise NotAsWritten from None
        if total.hexdigest() != stated:
            raise NotAsWritten

    def __len__(self) -> int:
        return self.rows

    def read(self, rows: npt.NDArray[np.int64]) -> Stored:
        """(len(rows), width), in that order. Raises Gone, NotAsWritten, DataError."""
        out = np.empty((len(rows), self.width), dtype=self.dtype)
        order = np.argsort(rows, kind="stable")
        ordered = rows[order]
        with _reading(self.path), self.path.open("rb") as content:
            for begin, end in _stretches(ordered):
                first, last = int(ordered[begin]), int(ordered[end - 1])
                content.seek(self._start + self._size(first))
                data = content.read(self._size(last + 1 - first))
                if len(data) != self._size(last + 1 - first):
                    raise NotAsWritten
                block = np.frombuffer(data, self.dtype).reshape(-1, self.width)
                out[order[begin:end]] = block[ordered[begin:end] - first]
        return out

    def _size(self, rows: int) -> int:
        return rows * self.width * int(np.dtype(self.dtype).itemsize)


def write(path: Path, digests: npt.NDArray[np.uint8], features: Stored) -> Path:
    """Writes features as PATH-CHECKSUM.safetensors. Raises DataError."""
    from safetensors.numpy import save

    tensors: dict[str, npt.NDArray[Any]] = {
        "digests": digests,
        "features": np.ascontiguousarray(features),
    }
    total = hashlib.sha256(np.ascontiguousarray(digests).data)
    total.update(tensors["features"].data)
    check = total.hexdigest()
    path = path.with_name(f"{path.name}-{check[:8]}.safetensors")
    replace(path, save(tensors, {"sha256": check}))
    return path


def replace(path: Path, data: bytes) -> None:
    """Puts data in the place of a file, whole or not at all. Raises DataError."""
    temporary = path.with_name(f".{path.name}.{_HOST}-{get_ident()}-{os.getpid()}")
    with written(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Removes what `replace` left where it was killed, on this machine or long ago on another."""
    from emu2eval.runs.files import lives

    for path in folder.glob(".*.*-*"):
        host, _, process = path.suffix[1:].rpartition("-")
        with suppress(OSError):
            if host.rpartition("-")[0] == _HOST and process.isdecimal():
                left = not lives(int(process))
            else:
                left = time.time() - path.stat().st_mtime > _ABANDONED
            if left:
                path.unlink()


@contextmanager
def written(where: Path) -> Iterator[None]:
    """Turns an OSError about the cache into a DataError that says what to try."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"cannot write the features ({error.strerror})",
            where=where,
            hint="free some space, or choose another folder: export EMU2EVAL_CACHE=/path/to/cache",
        ) from None


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESTALE):
            raise Gone from None
        raise DataError(f"cannot read this feature file ({error.strerror})", where=path) from None


def _shape(tensor: Mapping[str, Any], dtype: Any, base: int, size: int) -> tuple[int, int, int]:
    """(where it begins, rows, width), after comparing them with the file's size: a shape is a stranger's
    number."""
    kind = {"U8": np.uint8, "F16": np.float16, "F32": np.float32}[tensor["dtype"]]
    if kind is not dtype or len(tensor["shape"]) != 2:
        raise ValueError("not a feature file")
    rows, width = (operator.index(size) for size in tensor["shape"])
    start = base + operator.index(tensor["data_offsets"][0])
    if min(rows, width) < 1 or start < base:
        raise ValueError("an empty shape")
    if start + rows * width * np.dtype(dtype).itemsize > size:
        raise ValueError("larger than the file")
    return start, rows, width


def _stretches(rows: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Rows, in their order, that are read at once: few lie between them that are not wanted."""
    ends = [*(np.flatnonzero(np.diff(rows) > _NEAR) + 1).tolist(), len(rows)]
    begin = 0
    for end in ends:
        while end > begin:
            until = min(end, begin + _TOGETHER)
            yield begin, until
            begin = until
