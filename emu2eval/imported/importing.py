"""A foreign file and one of our tasks -> a run in the store, scored as every other one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from emu2eval.data.load import ids_in_order, load_split
from emu2eval.engine.options import RunOptions
from emu2eval.engine.plan import folder_name, sources, task_record
from emu2eval.engine.questions import Place, Questions, questions_of
from emu2eval.engine.scoring import score_run
from emu2eval.engine.supplies import bring
from emu2eval.engine.tasks import OpenTask, open_task
from emu2eval.errors import ConfigError, StoreError
from emu2eval.imported import answers, files, harness, predictions
from emu2eval.imported.agreement import Agreement, agreements
from emu2eval.imported.entries import Log, Wanted
from emu2eval.imported.matching import Matched, match
from emu2eval.runs import locate
from emu2eval.runs.names import below, path_part
from emu2eval.runs.record import (
    DataIdentity,
    Extent,
    Identity,
    ImportIdentity,
    ImportRecord,
    ModelRecord,
    Record,
    TaskIdentity,
    known_record,
    versions,
    write_record,
)
from emu2eval.runs.scored import read_run
from emu2eval.runs.scores import read_rows
from emu2eval.runs.store import RunStore
from emu2eval.spec.changes import Changes
from emu2eval.types import Row, Shots
from emu2eval.watch import Watcher

BATCH = 1024


@dataclass(frozen=True)
class ImportOptions:
    """label: who asked, which tables show in the place of a protocol, since the prompts are unknown.

    model, shots: absent = what the file says. id, answer: columns; absent = guessed. filtered, filter: of
    logs with filters, see `entries.Wanted`.
    """

    label: str | None = None
    model: str | None = None
    shots: str | None = None
    id: str | None = None
    answer: str | None = None
    filtered: bool = False
    filter: str | None = None


@dataclass(frozen=True)
class Imported:
    """What was imported. written: answers stored now. agreements: with the scores that the file holds;
    left: those that cannot be compared.
    """

    rows: list[Row]
    folder: Path
    written: int
    agreements: list[Agreement] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def import_run(
    path: Path,
    task: str,
    options: ImportOptions | None = None,
    *,
    settings: RunOptions | None = None,
    watcher: Watcher | None = None,
) -> Imported:
    """Stores the answers of a file as a run of the task and scores it; the same file again does nothing.

    settings: protocol (whose scoring is applied), split, source, changes and out. Raises UserError, and then
    nothing is stored.
    """
    wanted, chosen, told = (
        options or ImportOptions(),
        settings or RunOptions(),
        watcher or Watcher(),
    )
    for part in ("model", "judge"):
        for key in getattr(chosen.changes, part):
            raise ConfigError(
                f"--set {part}.{key} has no effect on existing answers; only task.… can be set"
            )
    opened = open_task(
        task,
        chosen.changes,
        protocol=chosen.protocol,
        split=chosen.split,
        source=chosen.source,
        note=told.note,
    )
    bring([opened.scoring], told)
    log = _read(path, opened, wanted)
    told.reading(f"{opened.name}, split {opened.split}")
    said = _shots(path, log, wanted)
    shots = opened.shots(said)
    samples = load_split(opened.task, opened.split, shots.count)
    matched = match(
        log, samples, wanted.id, lambda: ids_in_order(opened.task, opened.split, shots.count)
    )
    answers.require(opened.task, log.entries)
    questions = questions_of(opened, samples, shots, Extent(), frozenset(matched.entries))
    record = _record(opened, questions, shots, log, matched, wanted, path, chosen.changes)
    for line in _told(log, matched, record, len(samples), wanted):
        told.note(line)
    return _store(record, questions, matched, chosen.folder, told)


def _read(path: Path, task: OpenTask, options: ImportOptions) -> Log:
    filtered = options.filtered or options.filter is not None
    wanted = Wanted(task.spec.output.kind, options.answer, filtered, options.filter)
    if path.is_dir():
        return predictions.read_images(path, wanted)
    rows, around = files.read(path)
    if harness.is_log(rows):
        return harness.read(path, rows, around, wanted)
    return predictions.read(path, rows, wanted)


def _shots(path: Path, log: Log, options: ImportOptions) -> str:
    """The number of demonstrations, as the user or the log says it."""
    if options.shots is not None:
        return options.shots
    if log.shots is None:
        raise ConfigError(
            "the number of demonstrations is unknown",
            where=path,
            hint="give it, for example: --shots 0",
        )
    return str(log.shots)


def _record(
    task: OpenTask,
    questions: Questions,
    shots: Shots,
    log: Log,
    matched: Matched,
    options: ImportOptions,
    path: Path,
    changes: Changes,
) -> Record:
    imported = ImportRecord(
        label=_label(task, log, options),
        origin=log.origin,
        files=dict(log.files),
        model=log.model,
        shots=log.shots,
        told=options.shots is not None,
        id=matched.column,
        answer=log.answer,
        rows=len(log.entries),
        unknown=len(matched.unknown),
        repeated=matched.repeated,
    )
    whole = options.model or log.model or path.stem
    asked = task.task.asked()
    return Record(
        task=task_record(task),
        model=ModelRecord(name=_name(whole), settings={"model": whole}),
        changes=changes,
        shots=shots,
        identity=Identity(
            task=TaskIdentity(**{**asked, "template": {}, "demonstrations": {}}),
            model=None,
            data=DataIdentity(queries=questions.samples.digest, sources=sources(task, shown=False)),
            shots=shots,
            imported=ImportIdentity(
                label=imported.label,
                model=whole,
                sha256=tuple(sorted(log.files.values())),
                id=matched.column,
                answer=log.answer,
            ),
        ),
        versions=versions(),
        imported=imported,
    )


def _label(task: OpenTask, log: Log, options: ImportOptions) -> str:
    """Who asked. It is no protocol of the task's: how these answers were asked for is unknown."""
    if options.label in task.spec.protocols:
        raise ConfigError(
            "the prompts of these answers are unknown, so they cannot be labelled with "
            f"{task.name}'s protocol "
            f"{options.label!r}",
            where="--label",
            hint=f"use another label; to score them by that protocol: --protocol {options.label}",
        )
    return options.label or log.asker or "unknown"


def _name(model: str) -> str:
    """The last part of a repository's or a path's name, fit for a folder's.

    >>> _name("org/model-7b/"), _name("my model")
    ('model-7b', 'my-model')
    """
    last = re.split(r"[/\\]", model.rstrip("/\\"))[-1]
    return path_part(last)


def _told(
    log: Log, matched: Matched, record: Record, queries: int, options: ImportOptions
) -> Iterator[str]:
    yield from log.notes
    total, known = len(log.entries), len(matched.entries)
    if options.id is None:
        yield f"ids from the column {matched.column}"
    if options.model is None:
        source = "from its log" if log.model else "from the file name; to set it: --model NAME"
        yield f"the model is named {record.model.name}, {source}"
    said = f"{total:,} rows, answers to {known:,} of {queries:,} queries"
    if matched.unknown:
        first = matched.unknown[0]
        said += f"; {len(matched.unknown):,} ids are not in the split; the first is {first!r}"
    if matched.repeated:
        said += f"; {matched.repeated:,} rows are duplicates"
    empty = sum(entry.response.error is not None for entry in matched.entries.values())
    if empty:
        said += f"; {empty:,} have no answer and are unscored"
    yield said


def _store(
    record: Record, questions: Questions, matched: Matched, root: Path, told: Watcher
) -> Imported:
    folder = below(root, folder_name(record))
    for name in _changed(record, root, folder):
        told.note(f"the file has changed since it was imported as {name}, so this is a new run")
    places = [(questions.samples.position(name), entry) for name, entry in matched.entries.items()]
    # All of it is looked at first: what cannot be used is told before anything is stored.
    entries = {
        questions.slot(Place(position)): (entry, questions.query(position))
        for position, entry in places
        if position is not None
    }
    for entry, sample in entries.values():
        answers.check(entry, sample)
    judged = questions.task.needs_judge
    with RunStore(folder).open_for_writing() as store:
        known = known_record(folder)
        store.index(questions.slot_of, questions.slots)
        missing = [slot for slot in entries if store.stored(slot) is None]
        scored = judged or _is_scored(folder)
        if missing or not scored or known is None or known.task != record.task:
            write_record(folder, record)
            for start in range(0, len(missing), BATCH):
                store.append(
                    (slot, answers.stored(*entries[slot], record.fingerprint, store))
                    for slot in missing[start : start + BATCH]
                )
            if not judged:
                score_run(record, questions, store)
        else:
            told.note(f"already imported, nothing to do: {folder}")
    if not read_rows(folder):
        told.note(f"stored; scoring needs a judge: emu2eval score {folder} --judge NAME")
        return Imported([], folder, len(missing))
    run = read_run(folder)
    found, left = agreements(run)
    return Imported(list(run.rows), folder, len(missing), found, left)


def _is_scored(folder: Path) -> bool:
    """Its rows and scores are there, and whole."""
    try:
        read_run(folder)
    except StoreError:
        return False
    return True


def _changed(record: Record, root: Path, folder: Path) -> Iterator[str]:
    """Runs imported from files of the same names that held something else."""
    mine = record.imported
    for path in locate.folders(root):
        other = known_record(path) if path != folder else None
        if mine is None or other is None or other.imported is None:
            continue
        theirs = other.imported
        if (
            theirs.files.keys() == mine.files.keys()
            and theirs.files != mine.files
            and theirs.label == mine.label
            and other.model.name == record.model.name
            and (other.task.name, other.task.protocol, other.task.split, other.shots)
            == (record.task.name, record.task.protocol, record.task.split, record.shots)
        ):
            yield path.name
