"""A run's record while the run goes on, with what its folder says of earlier commands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from emu2eval.engine.options import RunOptions
from emu2eval.engine.plan import Plan
from emu2eval.runs.record import RanOn, Record, write_record


class Keeping:
    """A run's record, written with each change."""

    def __init__(self, folder: Path, record: Record):
        self.record = record
        self._folder = folder
        write_record(folder, record)

    def __call__(self, **changes: Any) -> None:
        self.record = msgspec.structs.replace(self.record, **changes)
        write_record(self._folder, self.record)


def continued(plan: Plan, options: RunOptions, known: Record | None) -> Record:
    """The record of a plan, with what its folder says of earlier commands."""
    label = (known.label if known else None) if options.label is None else options.label
    record = msgspec.structs.replace(plan.record, label=label or None)
    if known is None:
        return record
    record = msgspec.structs.replace(
        record, spent=known.spent, ran_on=known.ran_on, merged=known.merged
    )
    if program_of(known) == program_of(record):
        return record
    # Until all is asked, so that a kill does not hide of which release the other answers are.
    return msgspec.structs.replace(record, versions=known.versions)


def cut_alike(known: Record | None, now: RanOn) -> bool:
    """All that is stored was asked in the batches that are cut now."""
    if known is None or not known.ran_on or now.batch is None:
        return False
    return all((each.extent, each.batch) == (now.extent, now.batch) for each in known.ran_on)


def program_of(record: Record) -> str | None:
    """The release of emu2eval that planned it."""
    return record.versions.get("emu2eval")
