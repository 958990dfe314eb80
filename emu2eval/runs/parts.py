"""A run that several processes answer, each in a folder of its own, so that no two write one file.

parts/deal.json               what is dealt, and how: written by the part that begins first
parts/03-of-16/               like a run's folder (`runs.store`): the answers of one part
parts/03-of-16/part.json      how far it is
parts/03-of-16/twins.jsonl    requests that equal one before them in the plan, whose answer they share
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Literal, Self

import msgspec

from emu2eval.errors import ConfigError, StoreError
from emu2eval.runs.answers import Answer
from emu2eval.runs.files import explained
from emu2eval.runs.journal import Journal
from emu2eval.runs.jsontext import encode
from emu2eval.runs.lock import alone
from emu2eval.runs.record import (
    Count,
    Extent,
    LeftOut,
    Name,
    Positive,
    is_run,
    read_struct,
    write_struct,
)
from emu2eval.runs.sealed import Damaged, seal, unseal
from emu2eval.runs.store import RunStore

FOLDER = "parts"
DEAL = "deal.json"
PART = "part.json"
TWINS = "twins.jsonl"
MOST = 10_000


class RunPart(msgspec.Struct, frozen=True):
    """One of several processes that answer a run together: 3 of 16. command: what was typed, without it."""

    number: Positive
    of: Positive
    command: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str, command: tuple[str, ...] = ()) -> RunPart:
        """Raises ConfigError.

        >>> str(RunPart.parse("3/16")), RunPart.parse("3/16").folder
        ('3/16', '03-of-16')
        """
        found = re.fullmatch(r"\s*(\d{1,6})\s*/\s*(\d{1,6})\s*", text)
        number, of = (int(each) for each in found.groups()) if found else (0, 0)
        if 0 < number <= of <= MOST:
            return cls(number, of, command)
        counted = " (they are counted from 1: #SBATCH --array=1-16)" if number == 0 < of else ""
        raise ConfigError(
            f"--part cannot be {text!r}{counted}",
            where="--part",
            hint="--part 3/16 for the third of 16 parts; at most 10,000",
        )

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @property
    def folder(self) -> str:
        """The name of its folder."""
        return f"{self.number:0{len(str(self.of))}}-of-{self.of}"


class Deal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the requests of a run are dealt. id: tells it from others; of: parts; requests: how many.

    extent, left_out: as in run.json. batch: requests that are answered together, None = of no fixed number.
    window: requests that are looked at together; unit: whether whole windows are dealt in turn, or the
    batches that are cut from them. command: what was typed for the first part, without its number; merged:
    all of it is in the run's own folder.
    """

    id: Name
    of: Positive
    requests: Count
    extent: Extent
    left_out: LeftOut = LeftOut()
    batch: Positive | None = None
    window: Positive
    unit: Literal["window", "batch"]
    command: tuple[str, ...] = ()
    merged: bool = False

    @property
    def units(self) -> int:
        """How many there are to deal, at most."""
        size = self.window if self.unit == "window" else self.batch or 1
        return -(-self.requests // size)

    @property
    def busy(self) -> int:
        """Parts that have something to do."""
        return min(self.of, self.units)

    def requests_of(self, number: int) -> int:
        """About how many a part answers."""
        size = self.window if self.unit == "window" else self.batch or 1
        firsts = range((number - 1) * size, self.requests, self.of * size)
        return sum(min(size, self.requests - first) for first in firsts)


class PartRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far a part is. deal: which it belongs to; host: where it runs; ended: all of it was asked."""

    deal: Name
    number: Positive
    of: Positive
    host: str
    ended: bool = False


class Twin(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A request that equals one before it in the plan, as of `Answer`."""

    id: str
    trial: int = 0
    take: int = 0
    key: str
    examples: tuple[str, ...] = ()
    left_out: int = 0

    def copy(self, answer: Answer) -> Answer:
        """The answer to the equal request as the answer to this one."""
        return msgspec.structs.replace(
            answer,
            id=self.id,
            trial=self.trial,
            take=self.take,
            examples=self.examples,
            left_out=self.left_out,
            seconds=0.0,
        )


# -- who is dealt what ------------------------------------------------------------------------------


def part_folder(run: Path, part: RunPart) -> Path:
    return run / FOLDER / part.folder


def known_deal(run: Path) -> Deal | None:
    """How a run is dealt; None where it is not. Raises StoreError where the file is damaged."""
    path = run / FOLDER / DEAL
    return read_struct(path, Deal) if path.is_file() else None


def write_deal(run: Path, deal: Deal) -> None:
    write_struct(run / FOLDER / DEAL, deal)


def settled(run: Path, wanted: Deal, *, any_batch: bool = False) -> Deal:
    """The deal of a run: as the part that began first has it, else as it is wanted now.

    any_batch: that of the first part is as welcome. Raises StoreError where another deal is under way.
    """
    with explained(run):
        (run / FOLDER).mkdir(parents=True, exist_ok=True)
        with alone(run / FOLDER):
            known = known_deal(run)
            differs = unlike(known, wanted, any_batch) if known is not None else None
            if known is not None and differs is None:
                return known
            if known is None or known.merged:
                write_deal(run, wanted)
                return wanted
    raise StoreError(
        f"other parts of this run are there already: {differs}",
        where=run,
        hint="give every part the same options; or put together first what there is: "
        f"emu2eval merge {run.name} --partial --clean",
    )


def unlike(known: Deal, wanted: Deal, any_batch: bool) -> str | None:
    """What differs between the parts that are there and one that begins, in words; None = nothing."""
    if known.of != wanted.of:
        return f"they are {known.of}, not {wanted.of}"
    if known.extent != wanted.extent:
        return f"they answer {_covered(known.extent)}, not {_covered(wanted.extent)}"
    if known.left_out != wanted.left_out or known.requests != wanted.requests:
        return (
            f"they are of {known.requests:,} requests, and this one of {wanted.requests:,}: some images are "
            "on one machine and not on the other (--skip-missing)"
        )
    if not any_batch and (known.batch, known.window) != (wanted.batch, wanted.window):
        return f"they answer {_batch(known)}, and this one {_batch(wanted)}"
    return None


def _covered(extent: Extent) -> str:
    queries = "all queries" if extent.limit is None else f"{extent.limit:,} queries"
    return queries if extent.trials == 1 else f"{queries} in {extent.trials} trials"


def _batch(deal: Deal) -> str:
    return f"batches of {deal.batch}" if deal.batch is not None else "batches of no fixed size"


# -- where they are ---------------------------------------------------------------------------------


def parts_of(run: Path) -> list[Path]:
    """The folders of all parts, by name."""
    return sorted(path for path in (run / FOLDER).glob("*-of-*") if path.is_dir())


def known_part(folder: Path) -> PartRecord | None:
    """How far a part is; None where it never began."""
    path = folder / PART
    return read_struct(path, PartRecord) if path.is_file() else None


def write_part(folder: Path, record: PartRecord) -> None:
    write_struct(folder / PART, record)


def unfinished(run: Path, deal: Deal) -> list[RunPart]:
    """Parts with something to do that have not ended."""
    return [
        part
        for part in (RunPart(number, deal.of) for number in range(1, deal.busy + 1))
        if (known := known_part(part_folder(run, part))) is None
        or known.deal != deal.id
        or not known.ended
    ]


def unmerged(run: Path) -> str | None:
    """That a run has parts which are not put together, in a sentence; None where it has not."""
    try:
        deal = known_deal(run)
        if deal is None or deal.merged:
            return None
        ended = deal.busy - len(unfinished(run, deal))
    except StoreError as damaged:
        return damaged.what
    so_far = "is only in parts so far" if not is_run(run) else "has parts that are not merged"
    return f"{run.name} {so_far} ({ended} of {deal.busy} ended)"


# -- the answers of one -----------------------------------------------------------------------------


class PartStore(RunStore):
    """The answers of one part, which also knows those that the run's own folder holds."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        self._whole: RunStore | None = None
        self._twins: dict[tuple[str, int, int], str] | None = None
        self._twin_writer: Journal | None = None

    def open_for_writing(self) -> Self:
        super().open_for_writing()
        with explained(self.folder):
            self._twin_writer = Journal(self.folder / TWINS)
        return self

    def close(self) -> None:
        with ExitStack() as closing:
            closing.callback(super().close)
            for part in (self._whole, self._twin_writer):
                if part is not None:
                    closing.callback(part.close)
            self._twin_writer = None

    def before(self, whole: RunStore) -> None:
        """What the run's own folder holds needs no asking either. Both are indexed."""
        self._whole = whole
        for slot, holds in enumerate(whole.holding):
            if holds:
                self.holding[slot] = 1

    def has(self, slot: int, key: str) -> bool:
        return super().has(slot, key) or (self._whole is not None and self._whole.has(slot, key))

    def owns(self, slot: int) -> bool:
        return super().owns(slot) or (self._whole is not None and self._whole.owns(slot))

    def failed(self, slot: int) -> bool:
        return super().failed(slot) or (self._whole is not None and self._whole.failed(slot))

    def twin(self, key: str) -> Answer | None:
        return super().twin(key) or (self._whole.twin(key) if self._whole is not None else None)

    def twins(self) -> Iterator[Twin]:
        """Every undamaged one, in the order in which they were found."""
        path = self.folder / TWINS
        if not path.exists():
            return
        with path.open("rb") as lines:
            for line in lines:
                try:
                    yield _decode(unseal(line.rstrip(b"\n")))
                except (Damaged, msgspec.DecodeError, UnicodeDecodeError):
                    continue  # its part finds it again, or its request stays unanswered

    def add_twin(self, twin: Twin) -> None:
        """Stores one, unless that is done already."""
        if self._twins is None:
            self._twins = {_place(each): each.key for each in self.twins()}
        place = _place(twin)
        if self._twins.get(place) == twin.key or self._twin_writer is None:
            return
        self._twin_writer.append(seal(encode(twin)) + b"\n")
        self._twins[place] = twin.key


def _place(twin: Twin) -> tuple[str, int, int]:
    return twin.id, twin.trial, twin.take


_decode = msgspec.json.Decoder(Twin).decode
