"""The disk that data goes to: how much is free, and what is told where it cannot be written."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from emu2eval.errors import DataError

SPARE = 256 << 20
"""Bytes that stay free on a disk."""

GOES_ON = "downloaded parts are saved; run the same command again to continue"


def free(folder: Path) -> int:
    """Bytes that are free where a folder is, or will be."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def room(folder: Path, needed: int) -> None:
    """Raises DataError where the disk has no room for so many bytes more."""
    if needed and free(folder) < needed + SPARE:
        raise DataError(
            f"{(needed + SPARE) / 1e9:,.1f} GB are needed, but only {free(folder) / 1e9:,.1f} GB are "
            "free",
            where=folder,
            hint="free some space, or store the data elsewhere: export EMU2EVAL_DATA=/path/to/data; "
            f"{GOES_ON}",
        )


@contextmanager
def writing(where: Path) -> Iterator[None]:
    """Turns an OSError about the data folder into a DataError that says what to try."""
    try:
        yield
    except OSError as error:
        raise disk_error(error, where) from None


def disk_error(error: OSError, where: Path) -> DataError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return DataError(
            f"no space left for data ({error.strerror})",
            where=where,
            hint=f"free some space and run the same command again; {GOES_ON}",
        )
    return DataError(
        f"cannot write to the data folder ({error.strerror or error})",
        where=error.filename or where,
        hint="check its permissions, or store the data elsewhere: export EMU2EVAL_DATA=/path/to/data",
    )


def linked(path: Path, target: Path) -> None:
    """The same file once more, which costs no room where the disk has links."""
    try:
        os.link(path, target)
    except OSError:
        with writing(target):
            shutil.copyfile(path, target)
