"""The score of each answer (scores.jsonl, packed in a reference) and a run's rows (report.json)."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import msgspec
from msgspec import Meta

from emu2eval.errors import StoreError
from emu2eval.runs.files import replaced
from emu2eval.runs.jsontext import encode
from emu2eval.runs.sealed import is_sealed, seal, unseal
from emu2eval.types import Row, Score

SCORES = "scores.jsonl"
PACKED = "scores.jsonl.gz"
REPORT = "report.json"

_LARGEST = 1 << 31
"""Bytes of unpacked scores that are read: twenty times those of the largest benchmark."""
_LONGEST = 1 << 24
"""Bytes of one score."""
_BLOCK = 1 << 18
"""Bytes that are read at a time."""
_LARGEST_REPORT = 1 << 26
"""Bytes of a report: tens of thousands of sub-scores."""


Value = Annotated[float, Meta(ge=-1e100, le=1e100)]
"""What no scorer gives is damage; squares and sums of these are still numbers."""


class SampleScore(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """The score of one answer. cluster: the unit of clustered errors; groups: labels of sub-scores.

    id, trial, take: those of the answer. details: what else the scorer found; why: the reason of no value.
    value: on the scorer's own scale, None = unscored, and then `why` says the reason; prediction: the answer
    as it was compared. unjudged: why what a judge would add is missing. hidden: it has no references.
    """

    id: str
    trial: int = 0
    take: int = 0
    value: Value | None
    prediction: str | None = None
    cluster: str
    groups: dict[str, str | tuple[str, ...]] = {}
    details: dict[str, Any] = {}
    why: str | None = None
    unjudged: str | None = None
    hidden: bool = False

    @property
    def key(self) -> tuple[str, int, int]:
        return self.id, self.trial, self.take

    def labels(self) -> Iterator[str]:
        """The sub-scores that it counts in, as tables name them."""
        for name, label in self.groups.items():
            for each in (label,) if isinstance(label, str) else label:
                yield f"{name}: {each}"

    @property
    def score(self) -> Score:
        return Score(
            self.value, self.prediction, self.details, self.why, self.unjudged, self.hidden
        )


class _Report(msgspec.Struct, forbid_unknown_fields=True):
    rows: list[Row]


_decode = msgspec.json.Decoder(SampleScore).decode
_decode_report = msgspec.json.Decoder(_Report).decode


def write_scores(folder: Path, scores: Iterable[SampleScore]) -> None:
    """Writes scores.jsonl whole or not at all, one score in memory at a time."""
    with replaced(folder / SCORES) as lines:
        for score in scores:
            lines.write(seal(encode(score)) + b"\n")


def read_scores(folder: Path) -> Iterator[SampleScore]:
    """The scores of a run or of a reference, in their order. Raises StoreError where they cannot be read."""
    packed = folder / PACKED
    path = packed if packed.is_file() else folder / SCORES
    number, whole = 0, path == packed
    try:
        with gzip.open(path) if path == packed else path.open("rb") as file:
            for number, line in enumerate(_lines(file, path), 1):  # noqa: B007 (told below)
                # What is packed has a checksum of its own.
                yield _decode(line if whole else unseal(line))
    except FileNotFoundError:
        raise _unscored(folder) from None
    except (OSError, EOFError, ValueError, RecursionError, zlib.error) as error:
        raise StoreError(
            f"cannot read the scores: {error}",
            where=f"{path}:{number}",
            hint=f"rescore the run: emu2eval score {folder}",
        ) from None


def _lines(file: BinaryIO | gzip.GzipFile, path: Path) -> Iterator[bytes]:
    """Without their ends; many at a time, since a call for each costs more than what it reads."""
    read, rest = 0, b""
    while block := file.read(_BLOCK):
        read += len(block)
        if read > _LARGEST:
            raise StoreError("the scores file is implausibly large", where=path)
        *lines, rest = (rest + block).split(b"\n")
        if len(rest) > _LONGEST:
            raise ValueError("a line is longer than any score")
        yield from lines
    if rest:
        yield rest


def pack_scores(folder: Path, scores: Iterable[SampleScore]) -> None:
    """Writes the scores of a reference; without a time stamp, so that the same scores are the same file."""
    data = b"".join(encode(score) + b"\n" for score in scores)
    with replaced(folder / PACKED) as file:
        file.write(gzip.compress(data, mtime=0))


def write_rows(folder: Path, rows: Iterable[Row]) -> None:
    """Writes report.json whole or not at all."""
    with replaced(folder / REPORT) as file:
        file.write(seal(msgspec.json.format(encode(_Report(list(rows))), indent=2)) + b"\n")


def read_rows(folder: Path) -> list[Row]:
    """The rows of a run's report, the headline first. Empty where the run was never scored."""
    path = folder / REPORT
    try:
        if path.stat().st_size > _LARGEST_REPORT:
            raise ValueError("it is too large")
        data = path.read_bytes().rstrip(b"\n")
        return _decode_report(unseal(data) if is_sealed(data) else data).rows
    except FileNotFoundError:
        return []
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(
            f"cannot read the report: {error}",
            where=path,
            hint=f"rescore the run: emu2eval score {folder}",
        ) from None


def _unscored(folder: Path) -> StoreError:
    return StoreError("the run has no scores", where=folder, hint=f"emu2eval score {folder}")
