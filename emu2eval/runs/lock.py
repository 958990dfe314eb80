"""One process at a time in a folder: the system's locks, or a file with a heartbeat where it has none.

flock answers ENOSYS or EOPNOTSUPP on some file systems of clusters; that is no other process.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAME = "lock"
BEAT = 10.0
"""Seconds between two signs of life of a lock without flock."""
DEAD = 6 * BEAT
"""Seconds of silence after which its holder, on another machine, counts as gone."""
_POLL = 0.1

_HELD = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)


class Lock:
    """The lock of a folder that is held until `close`."""

    def __init__(self, descriptor: int, beating: _Beating | None = None):
        self._descriptor = descriptor
        self._beating = beating

    def close(self) -> None:
        if self._beating is not None:
            self._beating.close()
        os.close(self._descriptor)

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def take(folder: Path, name: str = NAME) -> Lock | None:
    """The lock of a folder that exists; None = another process holds it. Raises OSError.

    name: of the file that is locked, where a folder has several.
    """
    path = folder / name
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        held = _by_system(descriptor)
        if held is not None:
            if held:
                return Lock(descriptor)
            os.close(descriptor)
            return None
        beating = _Beating.take(path.with_name(f"{name}.held"))
        if beating is None:
            os.close(descriptor)
            return None
        return Lock(descriptor, beating)
    except BaseException:
        with contextlib.suppress(OSError):
            os.close(descriptor)
        raise


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Waits for the lock of a folder, and holds it within. Raises OSError."""
    while (lock := take(folder)) is None:
        time.sleep(_POLL)
    with lock:
        yield


def _by_system(descriptor: int) -> bool | None:
    """Whether the system gave the lock; None = it has no such locks here."""
    locking: Any
    try:
        import fcntl as locking
    except ImportError:
        return _by_windows(descriptor)
    try:
        locking.flock(descriptor, locking.LOCK_EX | locking.LOCK_NB)
    except OSError as error:
        return False if error.errno in _HELD else None
    return True


def _by_windows(descriptor: int) -> bool | None:
    locking: Any
    try:
        import msvcrt as locking
    except ImportError:
        return None
    os.lseek(descriptor, 0, os.SEEK_SET)
    try:
        locking.locking(descriptor, locking.LK_NBLCK, 1)
    except OSError as error:
        return False if error.errno in _HELD else None
    return True


class _Beating:
    """A file that says who holds the lock, touched every BEAT seconds."""

    def __init__(self, path: Path):
        self._path = path
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="lock")
        self._thread.start()

    @classmethod
    def take(cls, path: Path) -> _Beating | None:
        for _ in range(2):
            try:
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            except FileExistsError:
                if _lives(path):
                    return None
                # Whoever renames it first may try again; the name is this process's own.
                stale = path.with_name(f"{path.name}.{socket.gethostname()}.{os.getpid()}")
                with contextlib.suppress(OSError):
                    path.rename(stale)
                    stale.unlink()
                continue
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump({"host": socket.gethostname(), "process": os.getpid()}, file)
            return cls(path)
        return None

    def _beat(self) -> None:
        while not self._stopped.wait(BEAT):
            with contextlib.suppress(OSError):
                os.utime(self._path)

    def close(self) -> None:
        self._stopped.set()
        self._thread.join()
        self._path.unlink(missing_ok=True)


def _lives(path: Path) -> bool:
    """Whether the holder gave a sign of life lately; on this machine, whether its process is there."""
    try:
        silent = time.time() - path.stat().st_mtime
        holder = json.loads(path.read_text(encoding="utf-8"))
        host, process = holder["host"], int(holder["process"])
    except FileNotFoundError:
        return False
    except (OSError, ValueError, KeyError, TypeError):
        return silent < DEAD  # being written
    if host == socket.gethostname() and os.name == "posix":
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return False
        except OSError:
            return True
        return True
    return silent < DEAD
