"""run.json: what a run was, enough to score it again, to repeat it and to compare it."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

import emu2eval
from emu2eval.errors import StoreError
from emu2eval.identity import value_key
from emu2eval.runs.files import explained, replaced
from emu2eval.runs.jsontext import encode
from emu2eval.runs.sealed import is_sealed, seal, unseal
from emu2eval.spec.changes import Changes
from emu2eval.spec.model import TrainingStep
from emu2eval.types import Shots, Used, protocol_label

RECORD = "run.json"
JUDGE = "judge.json"
FORMAT = 2
"""The version of the layout of a run's folder."""

LARGEST = 1 << 24
"""Bytes of a record: a hundred times those of the longest task file."""

MOST_TRIALS = 10_000
"""Draws of demonstrations and answers; every one is a place in memory for each query, answered or not."""

MOST_SETTINGS = 64
"""Settings in which a run was asked that its record keeps, the latest ones."""

Count = Annotated[int, Meta(ge=0, le=10**9)]
Positive = Annotated[int, Meta(ge=1, le=10**9)]
Name = Annotated[str, Meta(min_length=1, max_length=1000)]


class TaskRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The task as it was: its whole file with everything that was set, and where that file is.

    file: below the shipped tasks relative to them, else absolute. protocol, split: those of this run. spec:
    the whole file, with what was set. sources: of the splits that do not come
    from the official files.
    """

    name: Name
    file: str
    protocol: Name
    split: Name
    spec: dict[str, Any]
    sources: dict[str, str] = {}


class ModelRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The model as it was asked for. adapter: None where its answers were given elsewhere. settings: as its
    file and --set gave them. training: where it was a step of one. in_memory: it was an object of a program,
    which no file brings back."""

    name: Name
    adapter: Name | None = None
    settings: dict[str, Any] = {}
    training: TrainingStep | None = None
    in_memory: bool = False


class TaskIdentity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What decides the questions: everything in a task file but titles and scoring.

    split: of the queries; protocol: its name; template: its texts; demonstrations: how they are chosen;
    output: what is wanted.
    """

    name: Name
    version: int
    split: Name
    protocol: Name
    template: dict[str, Any]
    demonstrations: dict[str, Any]
    output: dict[str, Any]


class ModelIdentity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What decides the answers. adapter: its name; settings: those that matter; files: digests of weights,
    tokenizer and the like."""

    adapter: Name
    settings: dict[str, Any]
    files: dict[str, Any] = {}


class DataIdentity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """queries, demonstrations: digests of the splits; sources: of the splits, where they are not the official
    files; chooser: what it depends on beside its options, such as the features of an encoder."""

    queries: str
    demonstrations: str | None = None
    sources: dict[str, str] = {}
    chooser: dict[str, Any] = {}


class ImportRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where answers that were given elsewhere come from.

    label: who asked, which tables show in the place of a protocol, since the prompts are unknown.
    origin: in words. rows: how many were read. files: name -> sha256; model, shots: as the log says; told:
    the number of shots was given by the user. id, answer: the columns that were read; unknown, repeated:
    rows that were passed over.
    """

    label: Name
    origin: str
    files: dict[str, str]
    model: str | None = None
    shots: Count | None = None
    told: bool = False
    id: str
    answer: str | None = None
    rows: Count = 0
    unknown: Count = 0
    repeated: Count = 0


class ImportIdentity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What tells imported answers apart. label, model: as people named them; sha256: of the files, sorted;
    id, answer: columns."""

    label: Name
    model: Name
    sha256: tuple[str, ...]
    id: str
    answer: str | None = None


class Identity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What decides the answers of a run: two runs of equal identity are one.

    task, data: what was asked. model: None where the answers were given elsewhere, which `imported` then
    tells apart. shots, seed, ablation: which demonstrations were shown; fit: the positions that prompts were
    shortened to, where they were. imported: what tells answers apart that were given elsewhere.
    """

    task: TaskIdentity
    model: ModelIdentity | None
    data: DataIdentity
    shots: Shots
    seed: int = 0
    ablation: str = "none"
    fit: Count | None = None
    imported: ImportIdentity | None = None

    @property
    def fingerprint(self) -> str:
        """Hex sha256."""
        return value_key(msgspec.to_builtins(self))


class Extent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much of a run was asked for. limit: queries (None = all); trials: draws of demonstrations and
    answers."""

    limit: Positive | None = None
    trials: Annotated[int, Meta(ge=1, le=MOST_TRIALS)] = 1

    def within(self, other: Extent) -> bool:
        """Everything of this one is part of the other."""
        whole = other.limit is None or (self.limit is not None and self.limit <= other.limit)
        return whole and self.trials <= other.trials


class LeftOut(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ids of samples that were left out, as the user asked, since an image or a video of theirs had no file.

    queries: of the whole split, whatever the limit; demonstrations: of the pool.
    """

    queries: tuple[str, ...] = ()
    demonstrations: tuple[str, ...] = ()


class RanOn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What answered, outside of the identity: it decides how long a run takes, and the last bits of a number.

    extent: what was asked for then; batch: requests at a time, None where they were not asked in batches of
    one size. replicas: of the model; hosts: machines that they were on; devices: how many of each, of all
    replicas; parts: in how many processes, each by itself (`--part`), 0 = a single one dealt all of it.
    """

    extent: Extent = Extent()
    batch: Positive | None = None
    replicas: Positive = 1
    hosts: Positive = 1
    devices: dict[str, Positive] = {}
    parts: Count = 0


class MergedParts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The parts that were put together last. deal: which; parts: how many had begun; spent: what servers
    counted for them, which is part of the run's."""

    deal: Name
    parts: Count = 0
    spent: Used | None = None


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that is known of a run beside its answers. It names built-in parts and entry points, never code.

    task, model: what was asked of whom; changes: what --set said. shots: of each prompt; ablation: what was
    taken away from them; seed: of all draws; extent: how much was asked for; fit: prompts that were too long
    were shortened; left_out: samples without their image. identity: what decides the answers; versions: of
    packages. imported: where answers that were given elsewhere come from; spent: what a server counted.
    ran_on: each setting in which something was asked, in order; merged: of parts that were put together.
    sampled: the model drew its answers, anew in each trial. label: what tables call its model, where the user
    gave it a name; it decides nothing.
    """

    format: Literal[2] = 2
    task: TaskRecord
    model: ModelRecord
    changes: Changes = Changes()
    shots: Shots
    ablation: str = "none"
    seed: int = 0
    extent: Extent = Extent()
    fit: bool = False
    left_out: LeftOut = LeftOut()
    sampled: bool = False
    identity: Identity
    versions: dict[str, str] = {}
    imported: ImportRecord | None = None
    spent: Used | None = None
    ran_on: tuple[RanOn, ...] = ()
    merged: MergedParts | None = None
    label: Name | None = None

    def ran(self, now: RanOn) -> tuple[RanOn, ...]:
        """`ran_on` once more was asked in this setting; bounded."""
        return (*(each for each in self.ran_on if each != now), now)[-MOST_SETTINGS:]

    @property
    def fingerprint(self) -> str:
        return self.identity.fingerprint

    @property
    def shown(self) -> str:
        """The model as tables call it."""
        return self.label or self.model.name

    @property
    def protocol_label(self) -> str:
        """The protocol as tables show it; `imported-LABEL` where nobody knows the prompts."""
        asker = self.imported.label if self.imported is not None else None
        return protocol_label(self.task.protocol, asker)

    @property
    def setting(self) -> str:
        """Shots as people read them, with what was taken away: `4`, `0*`, `4 (labels)`."""
        return str(self.shots) if self.ablation == "none" else f"{self.shots} ({self.ablation})"


class WordingRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The words in which a judge was asked. system, user: its messages; again: what is said after a reply
    that cannot be read; digest: of all of them."""

    system: str | None
    user: str
    again: str
    digest: str


class JudgeRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """judge.json: who judges, about what, in which words; it keeps the words of earlier times.

    model, identity: the judge's, as in run.json. scorer: whose questions it answers; asked: their names;
    attempts: how often it is asked until its reply can be read; wordings: by their digest. spent: what a
    server counted.
    """

    format: Literal[2] = 2
    model: ModelRecord
    identity: ModelIdentity
    scorer: str
    asked: tuple[str, ...]
    attempts: Positive
    wordings: dict[str, WordingRecord]
    spent: Used | None = None


def write_record(folder: Path, record: Record) -> None:
    """Writes run.json whole or not at all."""
    write_struct(folder / RECORD, record)


def read_record(folder: Path) -> Record:
    """The record of a run. Raises StoreError where the folder is no run, or its record is damaged."""
    return read_struct(folder / RECORD, Record)


def known_record(folder: Path) -> Record | None:
    """As `read_record`, for who writes it anew: None where there is none, or a damaged one."""
    try:
        return read_record(folder)
    except StoreError:
        return None


def write_judge(folder: Path, record: JudgeRecord) -> None:
    write_struct(folder / JUDGE, record)


def known_judge(folder: Path) -> JudgeRecord | None:
    """As `known_record`, of a judge."""
    try:
        return read_judge(folder)
    except StoreError:
        return None


def read_judge(folder: Path) -> JudgeRecord:
    return read_struct(folder / JUDGE, JudgeRecord)


def is_run(folder: Path) -> bool:
    return (folder / RECORD).is_file()


def versions() -> dict[str, str]:
    """Of the packages that a run depends on, as far as they are installed."""
    found = {"python": platform.python_version(), "emu2eval": emu2eval.__version__}
    for package in ("torch", "transformers", "diffusers", "pillow"):
        if (installed := _version(package)) is not None:
            found[package] = installed
    return found


@cache
def _version(package: str) -> str | None:
    """As this process found it first, which is what it imported."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


_Any = TypeVar("_Any")


def write_struct(path: Path, value: object) -> None:
    """A struct as a JSON file with a checksum, written whole or not at all. Raises StoreError."""
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with replaced(path) as file:
        file.write(seal(msgspec.json.format(encode(value), indent=2)) + b"\n")


def read_struct(path: Path, kind: type[_Any]) -> _Any:
    """What `write_struct` wrote. Raises StoreError where it is not there, or is damaged."""
    try:
        if path.stat().st_size > LARGEST:
            raise StoreError(f"{path.name} is too large for a run's record", where=path)
        data = path.read_bytes().rstrip(b"\n")
        # One without a checksum is a reference of before there were any, or written by hand.
        return msgspec.json.decode(unseal(data) if is_sealed(data) else data, type=kind)
    except FileNotFoundError:
        raise StoreError(
            "not a run's folder", where=path.parent, hint="to list runs: emu2eval ls runs"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(
            f"{path.name} is damaged, was edited, or was written by another version: {error}",
            where=path,
            hint="run or import again: the file is rewritten and stored answers are kept",
        ) from None
