"""A file that only grows: written at once, and on the disk half a second later at most."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path

from emu2eval.errors import StoreError
from emu2eval.runs.files import explained

SYNC_EVERY = 0.5
"""Seconds between forced writes to the disk. A kill loses nothing; a power cut at most this much."""
LOOK_EVERY = 0.5
"""Seconds between looks whether the file still stands where it was opened."""

_BINARY = getattr(os, "O_BINARY", 0)  # Windows would turn \n into \r\n


class Journal:
    """Opened for appending by one process. A torn last line is cut off.

    end: bytes written. A thread of its own forces what was written to the disk, so that the last answer
    before a pause is there soon, and no writer waits for the disk.
    """

    def __init__(self, path: Path):
        self._path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _BINARY, 0o644)
        self.end = _drop_torn_line(self._descriptor)
        self._looked = time.monotonic()
        self._error: OSError | None = None
        self._written = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._sync, daemon=True, name="journal")
        self._thread.start()

    def append(self, data: bytes) -> None:
        """Raises StoreError where the disk is full, or the file is gone; what stood before is intact."""
        with explained(self._path):
            if self._error is not None:
                raise self._error
            self._look()
            try:
                _write_at(self._descriptor, data, self.end)
            except OSError:
                os.ftruncate(self._descriptor, self.end)
                raise
        self.end += len(data)
        self._written.set()

    def close(self) -> None:
        """Forces everything to the disk. Raises StoreError where that fails."""
        self._closing.set()
        self._written.set()
        self._thread.join()
        with explained(self._path):
            try:
                os.fsync(self._descriptor)
            finally:
                os.close(self._descriptor)

    def _look(self) -> None:
        """Raises StoreError where the folder was removed or renamed while the run was going."""
        now = time.monotonic()
        if now - self._looked < LOOK_EVERY:
            return
        self._looked = now
        try:
            same = os.path.samestat(self._path.stat(), os.fstat(self._descriptor))
        except FileNotFoundError:
            same = False
        if not same:
            raise StoreError(
                "the folder of this run was removed or renamed while it was being written",
                where=self._path.parent,
                hint="if it was renamed, it holds all answers so far: restore its name and run the same "
                "command again",
            )

    def _sync(self) -> None:
        while not self._closing.is_set():
            self._written.wait()
            self._closing.wait(SYNC_EVERY)
            self._written.clear()
            if not self._closing.is_set():
                try:
                    os.fsync(self._descriptor)
                except OSError as error:
                    self._error = error
                    return


def sync_folder(folder: Path) -> None:
    """Forces the names in a folder to the disk, where the system can."""
    if os.name != "posix":
        return
    with contextlib.suppress(OSError):  # some file systems sync no folders
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _write_at(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    if not hasattr(os, "pwrite"):  # Windows
        os.lseek(descriptor, offset, os.SEEK_SET)
    while view:
        written = (
            os.pwrite(descriptor, view, offset)
            if hasattr(os, "pwrite")
            else os.write(descriptor, view)
        )
        offset += written
        view = view[written:]


def _read_at(descriptor: int, count: int, offset: int) -> bytes:
    if hasattr(os, "pread"):
        return os.pread(descriptor, count, offset)
    os.lseek(descriptor, offset, os.SEEK_SET)
    return os.read(descriptor, count)


def _drop_torn_line(descriptor: int) -> int:
    """Cuts a last line without newline off, as a kill in the middle of a write leaves it."""
    size = os.fstat(descriptor).st_size
    end = size
    while end:
        start = max(0, end - 65536)
        newline = _read_at(descriptor, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end != size:
        os.ftruncate(descriptor, end)
    return end
