"""Who encodes what: processes that fill the same cache, on one machine or several, share the work.

FOLDER/claims/HOST-PROCESS-NUMBER    the digests that a process is at, locked as long as it lives

A claim whose process died holds nothing: what it named is claimed again. Where a file system has no locks
that other machines see, something may be encoded twice, and nothing else happens.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import count, islice
from pathlib import Path

from emu2eval.runs.lock import Lock, alone, take

NAME = "claims"
_numbers = count()


class Claim:
    """Digests that this process is at until `close`."""

    def __init__(self, path: Path, lock: Lock, digests: Sequence[str]):
        self.digests = frozenset(digests)
        self._path = path
        self._lock = lock

    def close(self) -> None:
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
        self._lock.close()


def claim(folder: Path, wanted: Sequence[str], most: int) -> Claim | None:
    """The first `most` that nobody else is at; None where others are at all of them. Raises OSError."""
    place = folder / NAME
    place.mkdir(parents=True, exist_ok=True)
    with alone(place):
        others = set(_claimed(place))
        own = list(islice((d for d in wanted if d not in others), most))
        if not own:
            return None
        name = f"{socket.gethostname()}-{os.getpid()}-{next(_numbers)}"
        lock = take(place, name)
        if lock is None:  # a namesake in another container
            return None
        path = place / name
        with path.open("r+b") as file:
            file.write(b"".join(map(bytes.fromhex, own)))
        return Claim(path, lock, own)


def claimed(folder: Path) -> bool:
    """Whether anybody is at something. Raises OSError."""
    place = folder / NAME
    if not place.is_dir():
        return False
    with alone(place):
        return next(_claimed(place), None) is not None


def _claimed(place: Path) -> Iterator[str]:
    for path in sorted(place.glob("*-*-*")):
        if path.name.endswith(".held") or path.name.startswith("lock"):
            continue
        with suppress(OSError):
            left = take(place, path.name)
            if left is not None:
                path.unlink(missing_ok=True)
                left.close()
                continue
            data = path.read_bytes()
            yield from (data[at : at + 32].hex() for at in range(0, len(data) - 31, 32))
