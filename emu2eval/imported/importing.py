"""A foreign file and one of our tasks -> a run in the store, scored as every other one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emu2eval.adapters.base import Absent
from emu2eval.data.load import ids_in_order, load_split
from emu2eval.engine.evaluation import Settings, open_task, slots
from emu2eval.engine.judging import needs_judge
from emu2eval.engine.plan import Imported, Plan, Shots, folder_name
from emu2eval.engine.record import record_of
from emu2eval.engine.scoring import build_cleaner, build_scorer, score_run
from emu2eval.engine.stored import read_run
from emu2eval.errors import ConfigError
from emu2eval.imported import answers, files, harness, predictions
from emu2eval.imported.agreement import Agreement, agreements
from emu2eval.imported.entries import Entry, Log, Wanted
from emu2eval.imported.matching import Matched, match
from emu2eval.runs.store import RunStore
from emu2eval.spec.config import DemonstrationSpec, ModelSpec, ProtocolSpec, Task
from emu2eval.types import Row
from emu2eval.watch import Watcher

BATCH = 1024


@dataclass(frozen=True)
class Options:
    """label: who asked, which the protocol in tables is named by, since the prompts are unknown.

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
class Result:
    """written: answers stored now. agreements: with the scores that the file holds; left: those that cannot
    be compared.
    """

    rows: list[Row]
    folder: Path
    written: int
    agreements: list[Agreement] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def import_run(
    path: Path,
    task: str,
    options: Options | None = None,
    *,
    settings: Settings | None = None,
    watcher: Watcher | None = None,
) -> Result:
    """Stores the answers of a file as a run of the task and scores it; the same file again does nothing.

    settings: protocol (whose scoring is applied), split, source, changes and out. Raises UserError, and then
    nothing is stored.
    """
    wanted, chosen, told = options or Options(), settings or Settings(), watcher or Watcher()
    for change in chosen.changes:
        if not change.startswith("task."):
            raise ConfigError(
                f"--set {change} sets nothing here: the answers are there, only task.… can"
            )
    opened = open_task(task, chosen, (), told)
    build_scorer(opened).require()
    build_cleaner(opened)
    log = _read(path, opened, wanted)
    told.reading(f"{opened.name}, split {opened.split}")
    shots, said = _shots(path, log, wanted)
    shown = Shots.parse(shots, opened).count
    samples = load_split(opened, opened.split, shown)
    matched = match(log, samples, wanted.id, lambda: ids_in_order(opened, opened.split, shown))
    answers.require(opened, log.entries)
    labelled = _labelled(opened, chosen, log, wanted.label)
    note = f"imported from {log.origin}, shots {said}"
    plan = Plan(
        task=labelled,
        model=_model(path, log, matched, wanted),
        adapter=Absent(),
        shots=Shots.parse(shots, labelled),
        samples=samples,
        pool=None,
        imported=Imported(frozenset(matched.entries), note),
    )
    for line in _told(log, matched, plan, wanted):
        told.note(line)
    record = record_of(plan, chosen.changes) | {"imported": _record(log, matched, note)}
    return _store(plan, record, matched, chosen.folder, told)


def _read(path: Path, task: Task, options: Options) -> Log:
    filtered = options.filtered or options.filter is not None
    wanted = Wanted(task.spec.output.kind, options.answer, filtered, options.filter)
    if path.is_dir():
        return predictions.read_images(path, wanted)
    rows, around = files.read(path)
    if harness.is_log(rows):
        return harness.read(path, rows, around, wanted)
    return predictions.read(path, rows, wanted)


def _shots(path: Path, log: Log, options: Options) -> tuple[str, str]:
    """(number of demonstrations, how it is known)."""
    if options.shots is not None:
        differ = log.shots is not None and str(log.shots) != options.shots
        return options.shots, "as told" + (f" (the log says {log.shots})" if differ else "")
    if log.shots is None:
        raise ConfigError(
            "how many demonstrations the model was shown is not said",
            where=path,
            hint="say it: --shots 0",
        )
    return str(log.shots), "as its log says"


def _labelled(task: Task, settings: Settings, log: Log, label: str | None) -> Task:
    """The task under a protocol without prompts, scored as the one that was asked for.

    Its name says that it is imported, who asked, and whose scoring it is where that is not the task's usual.
    """
    own = task.protocol_name
    if label in task.spec.protocols:
        raise ConfigError(
            f"how these answers were asked for is unknown, so they cannot stand under {task.name}'s protocol "
            f"{label!r}",
            where="--label",
            hint=f"another name; --protocol {label} scores them as that one does",
        )
    usual = settings.protocol in (None, task.spec.protocol)
    parts = ("imported", label or log.asker, None if usual else own)
    name = "-".join(part for part in parts if part)
    protocol = ProtocolSpec(ask="", about=f"Asked elsewhere; scored as {own}.")
    changes = {
        "protocols": {name: protocol},
        "protocol": name,
        "demonstrations": DemonstrationSpec(),
        # A file has one answer to each sample, also where the task wants several images.
        "output": task.spec.output.model_copy(update={"images": 1}),
    }
    spec = task.spec.model_copy(update=changes)
    return Task(spec, name, task.split, task.root, task.document, task.sources)


def _model(path: Path, log: Log, matched: Matched, options: Options) -> ModelSpec:
    """The model as tables name it. Its settings are what tells one import from another."""
    whole = options.model or log.model or path.stem
    settings = {
        "model": whole,
        "sha256": sorted(log.files.values()),
        "id": matched.column,
        "answer": log.answer,
    }
    return ModelSpec(name=_name(whole), adapter="imported", settings=settings)


def _name(model: str) -> str:
    """The last part of a repository's or a path's name, fit for a folder's.

    >>> _name("org/model-7b/"), _name("my model")
    ('model-7b', 'my-model')
    """
    last = re.split(r"[/\\]", model.rstrip("/\\"))[-1]
    return re.sub(r"[^\w.+-]+", "-", last).strip(".-")[:80] or "unnamed"


def _told(log: Log, matched: Matched, plan: Plan, options: Options) -> Iterator[str]:
    yield from log.notes
    total, known = len(log.entries), len(matched.entries)
    if options.id is None:
        yield f"ids from the column {matched.column}"
    if options.model is None:
        source = "as its log says" if log.model else "after the file; --model NAME names it"
        yield f"the model is called {plan.model.name}, {source}"
    said = f"{total:,} rows, answers to {known:,} of {len(plan.samples):,} queries"
    if matched.unknown:
        first = matched.unknown[0]
        said += f"; {len(matched.unknown):,} ids are not in the split, the first is {first!r}"
    if matched.repeated:
        said += f"; {matched.repeated:,} rows say again what another said"
    empty = sum(entry.response.error is not None for entry in matched.entries.values())
    if empty:
        said += f"; {empty:,} hold no answer and are unscored"
    yield said


def _record(log: Log, matched: Matched, note: str) -> dict[str, Any]:
    return {
        "note": note,
        "origin": log.origin,
        "files": dict(log.files),
        "model": log.model,
        "shots": log.shots,
        "id": matched.column,
        "answer": log.answer,
        "rows": len(log.entries),
        "unknown": len(matched.unknown),
        "repeated": matched.repeated,
    }


def _store(
    plan: Plan, record: Mapping[str, Any], matched: Matched, root: Path, told: Watcher
) -> Result:
    folder, slot_of = root / folder_name(plan), slots(plan)
    for name in _changed(record, root, folder):
        told.note(f"the file has changed since it was imported as {name}; this is another run")
    places = [(slot_of(name, 0), entry) for name, entry in matched.entries.items()]
    # All of it is made first: what cannot be used is told before anything is stored.
    rows = [
        (slot, entry, answers.row(entry, plan.query(slot), plan.fingerprint))
        for slot, entry in places
        if slot is not None
    ]
    judged = needs_judge(plan.task)
    with RunStore(folder).open_for_writing() as store:
        known = store.read_json("run.json")
        store.index(slot_of, len(plan.samples))
        missing = [row for row in rows if store.stored(row[0]) is None]
        scored = judged or (folder / "report.json").is_file()
        if missing or not scored or known is None or known["task"] != record["task"]:
            store.write_json("run.json", record)
            for start in range(0, len(missing), BATCH):
                store.append(
                    (slot, _with_image(entry, row, store))
                    for slot, entry, row in missing[start : start + BATCH]
                )
            if not judged:
                score_run(plan, store)
        else:
            told.note(f"imported before, nothing to do: {folder}")
    if not (folder / "report.json").is_file():
        told.note(f"stored, and scored by a judge: emu2eval score {folder} --judge NAME")
        return Result([], folder, len(missing))
    run = read_run(folder)
    found, left = agreements(run)
    return Result(list(run.rows), folder, len(missing), found, left)


def _with_image(entry: Entry, row: Mapping[str, Any], store: RunStore) -> Mapping[str, Any]:
    image = entry.response.image
    return row if image is None else {**row, "image": store.save_image(image)}


def _changed(record: Mapping[str, Any], root: Path, folder: Path) -> Iterator[str]:
    """Runs imported from files of the same names that held something else."""
    same = ("protocol", "split", "shots")
    mine = record["imported"]["files"]
    for path in sorted(root.glob("*/run.json")):
        other = RunStore(path.parent).read_json("run.json") if path.parent != folder else None
        if not isinstance(other, dict) or "imported" not in other:
            continue
        files_then = other["imported"]["files"]
        if (
            files_then.keys() == mine.keys()
            and files_then != mine
            and all(other[part]["name"] == record[part]["name"] for part in ("task", "model"))
            and all(other[name] == record[name] for name in same)
        ):
            yield path.parent.name
