"""The run store: one folder a run, append-only, that any kill leaves usable.

run.json         what was asked of whom: identity, extent, versions
responses.jsonl  one line a response, in the order of arrival
scores.jsonl     one line a sample, in the order of trials and ids
report.json      the rows of the table
images/        generated images, named by digest
"""

from __future__ import annotations

import errno
import os
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import msgspec

from emu2eval.errors import StoreError
from emu2eval.media import images
from emu2eval.runs.jsontext import encode
from emu2eval.types import Image

SYNC_EVERY = 0.5
"""Seconds between forced writes to the disk. A kill loses nothing; a power cut at most this much."""

_decode = msgspec.json.Decoder().decode


class _Line(msgspec.Struct):
    """What continuing a run needs to know of a stored response."""

    id: str
    trial: int
    key: str
    error: str | None = None


_decode_line = msgspec.json.Decoder(_Line).decode


class RunStore:
    """A run's folder, opened for reading, or for writing by one process at a time."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.damaged = 0
        self._lock: int | None = None
        self._writer: int | None = None
        self._reader: BinaryIO | None = None
        self._end = 0
        self._synced = 0.0
        self._offsets = array("q")
        self._keys = array("Q")
        self._by_key: dict[int, int] = {}

    # -- opening ----------------------------------------------------------------------------------

    def open_for_writing(self) -> RunStore:
        """Makes the folder and takes its lock. Raises StoreError where either cannot be done."""
        with _explained(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        if not _take(self._lock):
            os.close(self._lock)
            self._lock = None
            raise StoreError(
                "another process is running this very run",
                where=self.folder,
                hint="wait for it, or give this one another --out folder",
            )
        with _explained(self.folder):
            path = self.folder / "responses.jsonl"
            self._writer = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            self._end = _drop_torn_line(self._writer)
        return self

    def __enter__(self) -> RunStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Syncs what was written and gives the lock back."""
        if self._writer is not None:
            try:
                os.fsync(self._writer)
            finally:
                os.close(self._writer)
                self._writer = None
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # -- what is there ----------------------------------------------------------------------------

    def index(self, slot_of: Callable[[str, int], int | None], slots: int) -> None:
        """Reads where every usable response stands. slot_of: (id, trial) -> slot, or None."""
        self._offsets = array("q", [-1]) * slots
        self._keys = array("Q", [0]) * slots
        self._by_key = {}
        self.damaged = 0
        path = self.folder / "responses.jsonl"
        if not path.exists():
            return
        offset = 0
        with path.open("rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    break  # torn by a kill, or being written right now
                try:
                    row = _decode_line(line)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    # A disk fault or an editor. What the line held is simply asked again.
                    self.damaged += 1
                else:
                    slot = slot_of(row.id, row.trial)
                    if slot is not None:
                        self._note(slot, row.key, row.error, offset)
                offset += len(line)

    def has(self, slot: int, key: str) -> bool:
        """A response without error to this very request is stored."""
        return self._offsets[slot] >= 0 and self._keys[slot] == _short(key)

    def twin(self, key: str) -> dict[str, Any] | None:
        """A stored response to an equal request of another sample or trial."""
        offset = self._by_key.get(_short(key))
        row = self._read(offset) if offset is not None else None
        return row if row is not None and row["key"] == key and not row.get("error") else None

    def stored(self, slot: int) -> dict[str, Any] | None:
        """The last response stored for a slot, one with an error included; None = none."""
        offset = self._offsets[slot]
        if offset == -1:
            return None
        return self._read(offset if offset >= 0 else -offset - 2)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Every stored response in the order of arrival."""
        path = self.folder / "responses.jsonl"
        if not path.exists():
            return
        with path.open("rb") as lines:
            for line in lines:
                try:
                    yield _decode(line)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    continue

    def ids(self) -> frozenset[str]:
        """Of every sample with a response, one with an error included."""
        return frozenset(row["id"] for row in self.rows())

    # -- writing ----------------------------------------------------------------------------------

    def append(self, rows: Iterable[tuple[int, Mapping[str, Any]]]) -> None:
        """Stores (slot, response) pairs in one write; on the disk within SYNC_EVERY seconds.

        Raises StoreError where the disk is full; what stood there before is intact.
        """
        if self._writer is None:
            raise StoreError("the run is not open for writing", where=self.folder)
        lines = [(slot, row, encode(row) + b"\n") for slot, row in rows]
        data = b"".join(line for _, _, line in lines)
        try:
            with _explained(self.folder):
                _write_all(self._writer, data, self._end)
                now = time.monotonic()
                if now - self._synced >= SYNC_EVERY:
                    os.fsync(self._writer)
                    self._synced = now
        except StoreError:
            os.ftruncate(self._writer, self._end)
            raise
        for slot, row, line in lines:
            self._note(slot, row["key"], row.get("error"), self._end)
            self._end += len(line)

    def save_image(self, image: Image) -> str:
        """Keeps a generated image under its digest, which is returned."""
        digest = images.digest(image)
        path = self.folder / "images" / f"{digest}.png"
        if not path.exists():
            with _explained(self.folder):
                path.parent.mkdir(exist_ok=True)
            self._replace(path, images.read(image))
        return digest

    def image(self, digest: str) -> Image:
        """A generated image by its digest."""
        return Image.known(str(self.folder / "images" / f"{digest}.png"), digest)

    def write_json(self, name: str, value: Any) -> None:
        """Writes `name` whole or not at all."""
        self._replace(self.folder / name, msgspec.json.format(encode(value), indent=2) + b"\n")

    def read_json(self, name: str) -> Any:
        """What `write_json` wrote; None where it is not there. Raises StoreError where damaged."""
        path = self.folder / name
        try:
            return _decode(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise StoreError(f"the file cannot be read: {error}", where=path) from None

    def write_lines(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Writes JSON lines whole or not at all, one row in memory at a time."""
        path = self.folder / name
        with _explained(path):
            temporary = path.with_name(f".{name}.{os.getpid()}")
            try:
                with temporary.open("wb") as lines:
                    for row in rows:
                        lines.write(encode(row) + b"\n")
                    lines.flush()
                    os.fsync(lines.fileno())
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)

    # -- inside -----------------------------------------------------------------------------------

    def _note(self, slot: int, key: str, error: str | None, offset: int) -> None:
        short = _short(key)
        if error is None:
            self._offsets[slot] = offset
            self._keys[slot] = short
            self._by_key[short] = offset
        elif not self.has(slot, key):
            # Errors keep their place as -offset - 2: shown and counted, but asked again.
            self._offsets[slot] = -offset - 2
            self._keys[slot] = 0

    def _read(self, offset: int) -> dict[str, Any]:
        if self._reader is None:
            self._reader = (self.folder / "responses.jsonl").open("rb")
        self._reader.seek(offset)
        row: dict[str, Any] = _decode(self._reader.readline())
        return row

    def _replace(self, path: Path, data: bytes) -> None:
        with _explained(path):
            temporary = path.with_name(f".{path.name}.{os.getpid()}")
            try:
                with temporary.open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)


class _explained:
    """Turns an OSError about the results folder into a StoreError that says what to try."""

    def __init__(self, where: Path):
        self.where = where

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not isinstance(error, OSError):
            return
        where = error.filename or self.where
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StoreError(
                f"there is no room left for results ({error.strerror})",
                where=where,
                hint="free some space and run the same command again; all that was answered is kept",
            ) from None
        raise StoreError(
            f"the results folder cannot be written ({error.strerror})",
            where=where,
            hint="check its permissions, or name another folder with --out",
        ) from None


def _short(key: str) -> int:
    """64 bits of a key: enough to tell a run's requests apart; `twin` compares the whole key."""
    return int(key[:16], 16)


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        offset += written
        view = view[written:]


def _drop_torn_line(descriptor: int) -> int:
    """Cuts a last line without newline off, as a kill in the middle of a write leaves it."""
    size = os.fstat(descriptor).st_size
    end = size
    while end:
        start = max(0, end - 65536)
        newline = os.pread(descriptor, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end != size:
        os.ftruncate(descriptor, end)
    return end


def _take(lock: int) -> bool:
    try:
        import fcntl
    except ImportError:  # not on Windows; there, two processes on one run are the user's to avoid
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
