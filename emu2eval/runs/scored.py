"""A stored run, or a reference, as what it says of each sample: what comparisons and pages are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from emu2eval.errors import StoreError
from emu2eval.runs.record import Record, read_record
from emu2eval.runs.scores import SampleScore, read_rows, read_scores
from emu2eval.types import Row

Key = tuple[str, int, int]
"""Id of the sample, trial and take."""


@dataclass(frozen=True)
class ScoredRun:
    """A run's record, rows and scores."""

    folder: Path
    record: Record
    rows: tuple[Row, ...]
    scores: Mapping[Key, SampleScore]

    @property
    def name(self) -> str:
        """Of its folder."""
        return self.folder.name

    @property
    def task(self) -> str:
        return self.record.task.name

    @property
    def model(self) -> str:
        return self.record.shown

    @property
    def label(self) -> str:
        return f"{self.model} {self.record.setting}"

    @cached_property
    def trials(self) -> int:
        return max((trial for _, trial, _ in self.scores), default=0) + 1

    @cached_property
    def takes(self) -> int:
        return max((take for *_, take in self.scores), default=0) + 1


def read_run(folder: Path) -> ScoredRun:
    """A run's folder, or that of a reference. Raises StoreError where it is none or was never scored."""
    record, rows = read_record(folder), read_rows(folder)
    scores = {score.key: score for score in read_scores(folder)}
    if not rows or not scores:
        raise StoreError("the run has no scores", where=folder, hint=f"emu2eval score {folder}")
    return ScoredRun(folder, record, tuple(rows), scores)
