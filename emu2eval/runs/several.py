"""Several stored runs, read one after the other: one that is damaged costs only itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from emu2eval.errors import StoreError, raise_together

Read = TypeVar("Read")


@dataclass(frozen=True)
class ReadRuns(Generic[Read]):
    """What was read of the runs that can be, in their order; lost: what is wrong with the others."""

    read: tuple[Read, ...]
    lost: tuple[StoreError, ...] = ()


def read_each(folders: Iterable[Path], read: Callable[[Path], Read]) -> ReadRuns[Read]:
    """Reads each run that can be read. Raises what is wrong with them where none can."""
    found: list[Read] = []
    lost: list[StoreError] = []
    for folder in folders:
        try:
            found.append(read(folder))
        except StoreError as error:
            lost.append(error)
    if not found:
        raise_together(lost)
    return ReadRuns(tuple(found), tuple(lost))
