"""Scored runs as exports read them, and the files that exports write."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from emu2eval.errors import StoreError
from emu2eval.runs.record import Record, read_record
from emu2eval.runs.scores import read_rows
from emu2eval.runs.several import ReadRuns, read_each
from emu2eval.types import Row


@dataclass(frozen=True)
class StoredRows:
    """A run's record and rows."""

    folder: Path
    record: Record
    rows: list[Row]


def read(folders: Iterable[Path]) -> ReadRuns[StoredRows]:
    """The runs that are scored, and what is wrong with those that cannot be read."""
    found = read_each(folders, lambda run: StoredRows(run, read_record(run), read_rows(run)))
    return ReadRuns(tuple(run for run in found.read if run.rows), found.lost)


def write(text: str, file: Path) -> None:
    """Raises StoreError where the file cannot be written."""
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StoreError(f"cannot write the file ({error.strerror})", where=file) from None
