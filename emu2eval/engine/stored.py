"""Stored runs and reference runs as what they say of each sample: what comparisons are made of."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from emu2eval.engine.evaluation import reopen
from emu2eval.engine.record import read_record, recorded_task
from emu2eval.engine.scoring import build_scorer
from emu2eval.errors import StoreError, UserError
from emu2eval.scorers.base import Scorer
from emu2eval.types import Row

Key = tuple[str, int]
"""Id of the sample and number of the trial."""


class Answer(msgspec.Struct, frozen=True):
    """What scores.jsonl says of one answer."""

    id: str
    trial: int
    value: float | None = None
    prediction: str | None = None
    cluster: str = ""
    groups: Mapping[str, Any] = {}
    details: Mapping[str, Any] = {}

    def labels(self) -> Iterator[str]:
        """The sub-scores that it counts in, as tables name them."""
        for name, label in self.groups.items():
            for each in (label,) if isinstance(label, str) else label:
                yield f"{name}: {each}"


@dataclass(frozen=True)
class StoredRun:
    """A run's record and answers. unclustered: why its answers are taken for independent, if they are."""

    folder: Path
    record: Mapping[str, Any]
    rows: tuple[Row, ...]
    answers: Mapping[Key, Answer]
    unclustered: str | None = None

    @property
    def task(self) -> str:
        return str(self.record["task"]["name"])

    @property
    def model(self) -> str:
        return str(self.record["model"]["name"])

    @property
    def ablation(self) -> str:
        return str(self.record.get("ablation", "none"))

    @property
    def shots(self) -> str:
        """As tables show them, with what was taken away: `4`, `0*`, `4 (labels)`."""
        count = str(self.record["shots"])
        return count if self.ablation == "none" else f"{count} ({self.ablation})"

    @property
    def label(self) -> str:
        return f"{self.model} {self.shots}"

    @cached_property
    def trials(self) -> int:
        return max((trial for _, trial in self.answers), default=0) + 1

    @cached_property
    def scorer(self) -> Scorer:
        return build_scorer(recorded_task(self.record))


def read_run(folder: Path) -> StoredRun:
    """A run's folder, or that of a reference. Raises StoreError where it is none or was never scored."""
    record = read_record(folder)
    path = folder / "report.json"
    try:
        report = msgspec.json.decode(path.read_bytes(), type=dict[str, list[Row]])
        rows = tuple(report["rows"])
        packed = folder / "scores.jsonl.gz"
        answers = _kept(packed) if packed.is_file() else _scores(folder / "scores.jsonl")
    except FileNotFoundError:
        raise StoreError(
            "the run has no scores", where=folder, hint=f"emu2eval score {folder}"
        ) from None
    except (OSError, EOFError, KeyError, ValueError, msgspec.MsgspecError) as error:
        raise StoreError(f"the scores cannot be read: {error}", where=folder) from None
    if not rows or not answers:
        raise StoreError("the run has no scores", where=folder, hint=f"emu2eval score {folder}")
    answers, unclustered = _with_clusters(folder, answers)
    by_key = {(answer.id, answer.trial): answer for answer in answers}
    return StoredRun(folder, record, rows, by_key, unclustered)


def _scores(path: Path) -> list[Answer]:
    decode = msgspec.json.Decoder(Answer).decode
    with path.open("rb") as lines:
        return [decode(line) for line in lines]


def _kept(path: Path) -> list[Answer]:
    rows: Sequence[Any] = [
        msgspec.json.decode(line) for line in gzip.decompress(path.read_bytes()).splitlines()
    ]
    return [Answer(name, trial, value, said, *about) for name, trial, said, value, *about in rows]


def _with_clusters(folder: Path, answers: list[Answer]) -> tuple[list[Answer], str | None]:
    """References of an older version do not say which image a sample belongs to; the data does."""
    if all(answer.cluster for answer in answers):
        return answers, None
    try:
        plan, store = reopen(folder)
        store.close()
    except UserError as error:
        alone = [msgspec.structs.replace(a, cluster=a.cluster or a.id) for a in answers]
        return alone, f"samples of one image are taken for independent: {error.what}"
    found = []
    for answer in answers:
        position = plan.samples.position(answer.id)
        sample = plan.samples[position] if position is not None else None
        cluster = (sample.cluster if sample else None) or answer.id
        groups = sample.groups if sample else {}
        found.append(msgspec.structs.replace(answer, cluster=cluster, groups=groups))
    return found, None
