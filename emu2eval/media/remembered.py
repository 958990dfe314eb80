"""What files were, remembered across processes: one that has not changed since is not read again.

CACHE/files.sqlite   a row a file: a hash of its path, its state when read, what was found, a checksum
"""

from __future__ import annotations

import atexit
import os
import time
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING
from zlib import crc32

import emu2eval
from emu2eval.spec import catalog

if TYPE_CHECKING:
    import sqlite3

NAME = "files.sqlite"
SETTLED = 2.0
"""Seconds a file must have been left alone: it may change again within one tick of its disk's clock."""
TOGETHER = 1024
"""Rows that are written at a time."""
MANY = 2048
"""Lookups after which the rest of the table is read at once."""
_LARGEST = 1 << 20
"""Rows of a table that is."""
_PATIENCE = 1.0
"""Seconds to wait for another process that writes."""

State = tuple[int, int, int, int]
"""Of a file: its inode, size, and when its content and its entry were changed last, in ns."""


def state_of(stat: os.stat_result) -> State:
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


class RememberedFiles:
    """One table of them. It can only save time: where it cannot be read or written, files are read again."""

    def __init__(self, file: Path):
        self.file = file
        self._lock = Lock()
        self._table: sqlite3.Connection | None = None
        self._process = os.getpid()
        self._broken = False
        self._new: dict[bytes, tuple[bytes, bytes, int]] = {}
        self._all: dict[bytes, tuple[bytes, bytes, int]] | None = None
        self._lookups = 0

    def recall(self, place: str, state: State) -> bytes | None:
        """What was found in the file at that place, if it is still in that state."""
        key, known = _place(place), _packed(state)
        with self._lock:
            row = self._new.get(key)
            if row is None and (self._table is not None or self._there()):
                row = self._row(key)
        if row is None or row[0] != known or row[2] != _sum(key, known, row[1]):
            return None
        return row[1]

    def keep(self, place: str, state: State, found: bytes) -> None:
        """Remembers it, unless the file has only just been written."""
        if time.time() - max(state[2:]) / 1e9 < SETTLED:
            return
        key, known = _place(place), _packed(state)
        with self._lock:
            self._new[key] = known, found, _sum(key, known, found)
            if self._all is not None:
                self._all.pop(key, None)
            if len(self._new) >= TOGETHER:
                self._write()

    def close(self) -> None:
        """Writes what is not written yet."""
        with self._lock:
            self._write()
            if self._table is not None:
                self._table.close()
                self._table = None

    def _there(self) -> bool:
        try:
            return self.file.exists()
        except OSError:  # a folder that may not be looked into
            return False

    def _row(self, key: bytes) -> tuple[bytes, bytes, int] | None:
        import sqlite3

        try:
            found = self._open()
            if found is None:
                return None
            self._lookups += 1
            if self._lookups == MANY:
                rows = found.execute(f"SELECT * FROM files LIMIT {_LARGEST}")
                self._all = {place: rest for place, *rest in rows}
            one = self._all.get(key) if self._all is not None else None
            if one is None:
                row = found.execute("SELECT state, found, sum FROM files WHERE place = ?", (key,))
                one = row.fetchone()
        except sqlite3.Error as error:
            self._give_up(damaged=type(error) is sqlite3.DatabaseError)
            return None
        # A damaged table may hold anything.
        fits = one is not None and all(map(isinstance, one, (bytes, bytes, int)))
        return one if fits else None

    def _write(self) -> None:
        import sqlite3

        rows, self._new = self._new, {}
        if not rows:
            return
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            if (table := self._open()) is not None:
                with table:
                    table.executemany(
                        "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)",
                        [(key, *row) for key, row in rows.items()],
                    )
        except (sqlite3.Error, OSError) as error:
            self._give_up(damaged=type(error) is sqlite3.DatabaseError)

    def _open(self) -> sqlite3.Connection | None:
        import sqlite3

        if self._process != os.getpid():
            # A connection does not outlive a fork; what was new there is written there.
            self._process, self._table, self._new = os.getpid(), None, {}
        if self._table is None and not self._broken:
            table = sqlite3.connect(self.file, timeout=_PATIENCE, check_same_thread=False)
            self._table = table
            table.execute("PRAGMA synchronous = OFF")  # a row that is lost or torn costs a reading
            table.execute(
                "CREATE TABLE IF NOT EXISTS files "
                "(place BLOB PRIMARY KEY, state BLOB, found BLOB, sum INTEGER) WITHOUT ROWID"
            )
        return self._table

    def _give_up(self, *, damaged: bool) -> None:
        """For this process: the folder cannot be written, or the disk is full. A damaged table is begun anew
        by the next one."""
        self._broken = True
        if self._table is not None:
            self._table.close()
            self._table = None
        if damaged:
            with suppress(OSError):
                self.file.unlink()


def files() -> RememberedFiles:
    """Those of the cache folder."""
    root = os.environ.get("EMU2EVAL_CACHE")
    known = _by_root.get(root)
    if known is None:
        known = _by_root[root] = RememberedFiles(catalog.cache_root() / NAME)
        atexit.register(known.close)
    return known


_by_root: dict[str | None, RememberedFiles] = {}


def _place(place: str) -> bytes:
    return blake2b(os.fsencode(place), digest_size=16).digest()


def _packed(state: State) -> bytes:
    return repr(state).encode()


def _sum(key: bytes, state: bytes, found: bytes) -> int:
    # Another release may find other things in a file.
    return crc32(found, crc32(state, crc32(key, crc32(emu2eval.__version__.encode()))))
