"""Records on the disk by key, that many processes write and read at once: none waits for another.

FOLDER/KEY/NAME.data    records one after another; only the process that NAME names appends to it
FOLDER/KEY/NAME.index   an entry a record, written behind it: its key, place, length and CRC-32, and its own

A process sees what others wrote as soon as it looks again. What a kill left unfinished, or a disk without
room, has no entry, or one that does not fit its record, and counts for nothing. Records are read with plain
reads and not mapped: the system keeps them in memory once for all processes either way, and a file that
another process removed is an error there and not the end of this one.
"""

from __future__ import annotations

import os
import shutil
import socket
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

DATA, INDEX = ".data", ".index"
LARGEST, PARTS = 256 << 20, 64
"""Bytes of a file, and how many files the room holds at least: what is removed goes a file at a time."""
IDLE = 3600.0
"""Seconds after whose last use a file may be removed to make room."""
FREE = 1 << 30
"""Bytes of a disk that are left to others: results are written there, too."""
AGAIN = 1.0
"""Seconds after which a process looks again for what others wrote."""

_ENTRY = struct.Struct("<32sQQII")
_SUMMED = _ENTRY.size - 4


@dataclass(frozen=True, slots=True)
class _Place:
    file: str
    start: int
    length: int
    crc: int


class AppendedRecords:
    """root: of all keys; key: of these records; most: bytes that all files together take, each process
    adding one file more at most.

    No failure of the disk is the user's concern: what cannot be read is not there, what cannot be written is
    not kept. Any thread may call it.
    """

    def __init__(self, root: Path, key: str, most: int):
        self.root, self.folder, self.most = root, root / key, most
        self.full = False
        self._places: dict[bytes, _Place] = {}
        self._read: dict[str, int] = {}
        self._used: dict[str, float] = {}
        self._looked = -AGAIN
        self._own: _Own | None = None
        self._lock = Lock()
        self.look(at_once=True)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: bytes) -> bool:
        return key in self._places

    def get(self, key: bytes) -> bytes | None:
        """The record as it was put; None where there is none, or none that is whole."""
        place = self._places.get(key)
        if place is None:
            return None
        try:
            with (self.folder / (place.file + DATA)).open("rb") as file:
                file.seek(place.start)
                found = file.read(place.length)
        except OSError:
            found = b""
        if len(found) == place.length and zlib.crc32(found) == place.crc:
            self._touch(place.file)
            return found
        with self._lock:
            self._places.pop(key, None)
        return None

    def put(self, key: bytes, record: bytes) -> None:
        """Appends it, unless it is there or there is no room."""
        with self._lock:
            if self.full or key in self._places:
                return
            try:
                own = self._writing(len(record))
                if own is not None:
                    self._places[key] = own.append(key, record)
            except OSError:
                self.full = True  # of files, of a quota, or read only

    def look(self, *, at_once: bool = False) -> None:
        """Learns what other processes wrote and removed since it last looked."""
        with self._lock:
            if not at_once and time.monotonic() - self._looked < AGAIN:
                return
            with suppress(OSError):
                self._learn()
            self._looked = time.monotonic()

    # -- inside -----------------------------------------------------------------------------------

    def _learn(self) -> None:
        sizes = {path.stem: size for path, size, _ in _files(self.folder.glob(f"*{INDEX}"))}
        gone = self._read.keys() - sizes.keys()
        if gone:
            self._places = {k: p for k, p in self._places.items() if p.file not in gone}
            for name in gone:
                del self._read[name]
        for name, size in sorted(sizes.items()):
            start = self._read.get(name, 0)
            if size - start >= _ENTRY.size and not (self._own and self._own.name == name):
                with (self.folder / (name + INDEX)).open("rb") as file:
                    file.seek(start)
                    self._read[name] = start + self._take(name, file.read())

    def _take(self, name: str, entries: bytes) -> int:
        """Bytes of the entries that are whole; behind the first that is not, nothing is believed."""
        whole = len(entries) // _ENTRY.size * _ENTRY.size
        for at in range(0, whole, _ENTRY.size):
            entry = entries[at : at + _ENTRY.size]
            key, start, length, crc, own = _ENTRY.unpack(entry)
            if zlib.crc32(entry[:_SUMMED]) != own:
                return at
            # The latest is the one that was made for one that is damaged.
            self._places[key] = _Place(name, start, length, crc)
        return whole

    def _writing(self, size: int) -> _Own | None:
        """The file that this process appends to, with room for so many bytes; None = there is none."""
        largest = min(LARGEST, max(1, self.most // PARTS))
        own = self._own
        if own is not None and own.process == os.getpid() and own.size + size <= largest:
            return own
        if not self._has_room(max(size, largest)):
            self.full = True
            return None
        self._own = _Own(self.folder)
        self._read[self._own.name] = 0
        return self._own

    def _has_room(self, wanted: int) -> bool:
        """Whether a file may be begun, once those have gone that nobody used for long, the oldest first."""
        self.folder.mkdir(parents=True, exist_ok=True)
        files = sorted(_files(self.root.glob(f"*/*{DATA}")), key=lambda found: found[2])
        total = sum(size for _, size, _ in files)
        for path, size, used in files:
            if total + wanted <= self.most or time.time() - used < IDLE:
                break
            with suppress(OSError):
                # First the entries, so that nobody looks for their records.
                path.with_suffix(INDEX).unlink(missing_ok=True)
                path.unlink()
                total -= size
        return total + wanted <= self.most and shutil.disk_usage(self.root).free > FREE + wanted

    def _touch(self, name: str) -> None:
        """Says that a file is used, so that no process takes it for an old one."""
        now = time.monotonic()
        if now - self._used.get(name, -IDLE) > IDLE / 6:
            self._used[name] = now
            with suppress(OSError):
                os.utime(self.folder / (name + DATA))


class _Own:
    """The two files of this process, opened for each record: what is closed is seen on other nodes, too."""

    def __init__(self, folder: Path):
        self.process = os.getpid()
        self.name = f"{time.time_ns():x}-{socket.gethostname()}-{self.process}"
        self.size = 0
        self._data, self._index = (folder / (self.name + ending) for ending in (DATA, INDEX))

    def append(self, key: bytes, record: bytes) -> _Place:
        """Raises OSError."""
        with self._data.open("ab") as file:
            start = file.tell()
            file.write(record)
        self.size = start + len(record)
        place = _Place(self.name, start, len(record), zlib.crc32(record))
        entry = _ENTRY.pack(key, start, place.length, place.crc, 0)[:_SUMMED]
        with self._index.open("ab") as file:
            file.write(entry + struct.pack("<I", zlib.crc32(entry)))
        return place


def _files(paths: Iterator[Path]) -> Iterator[tuple[Path, int, float]]:
    """Of each its bytes and when it was used last."""
    for path in paths:
        with suppress(OSError):
            stat = path.stat()
            yield path, stat.st_size, stat.st_mtime
