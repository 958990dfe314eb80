"""Writing into the results folder: whole or not at all, and errors that say what to try."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from emu2eval.errors import StoreError

ATTEMPTS = 5
"""To put a file in the place of one that somebody reads."""


@contextmanager
def explained(where: Path) -> Iterator[None]:
    """Turns an OSError about the results folder into a StoreError that says what to try."""
    try:
        yield
    except OSError as error:
        place = error.filename or where
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StoreError(
                f"no space left for results ({error.strerror})",
                where=place,
                hint="free some space and run the same command again; all answers so far are saved",
            ) from None
        raise StoreError(
            f"cannot write to the results folder ({error.strerror})",
            where=place,
            hint="check its permissions, or choose another folder with --out",
        ) from None


def sweep(folder: Path) -> None:
    """Removes what `replaced` left in the folder where it was killed; the files of a live process stay."""
    for path in folder.glob(".*.*"):
        process = path.suffix[1:]
        if process.isdecimal() and not lives(int(process)):
            path.unlink(missing_ok=True)


def lives(process: int) -> bool:
    """Whether a process of this machine is there."""
    if os.name == "nt":  # where asking would end it
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # another user's
        return True
    return True


@contextmanager
def replaced(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes the place of `path` once it is complete and on the disk."""
    with explained(path):
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            _replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def _replace(temporary: Path, path: Path) -> None:
    """Windows refuses while somebody has the old file open, which is over soon as a rule."""
    for attempt in range(ATTEMPTS):
        try:
            temporary.replace(path)
            return
        except PermissionError:
            if os.name == "posix" or attempt + 1 == ATTEMPTS:
                raise
            time.sleep(0.1 * (attempt + 1))
