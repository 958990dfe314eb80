"""Writing into the results folder: whole or not at all, and errors that say what to try."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from emu2eval.errors import StoreError


@contextmanager
def explained(where: Path) -> Iterator[None]:
    """Turns an OSError about the results folder into a StoreError that says what to try."""
    try:
        yield
    except OSError as error:
        place = error.filename or where
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StoreError(
                f"there is no room left for results ({error.strerror})",
                where=place,
                hint="free some space and run the same command again; everything answered so far is kept",
            ) from None
        raise StoreError(
            f"the results folder cannot be written ({error.strerror})",
            where=place,
            hint="check its permissions, or name another folder with --out",
        ) from None


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
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
