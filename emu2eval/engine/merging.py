"""Puts the parts of a run together in its own folder, and scores it; needs no model.

Whatever is stopped, the same call goes on: an answer is appended unless it was before, and parts are removed
only once all that they hold was read back.
"""

from __future__ import annotations

import shlex
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from emu2eval.engine.backends.alike import differences
from emu2eval.engine.judges import choose_judge
from emu2eval.engine.questions import Questions
from emu2eval.engine.reopen import reopen, score_again
from emu2eval.engine.results import Result
from emu2eval.errors import StoreError
from emu2eval.runs.answers import Answer
from emu2eval.runs.files import explained
from emu2eval.runs.lock import take
from emu2eval.runs.parts import (
    FOLDER,
    Deal,
    PartStore,
    RunPart,
    Twin,
    known_deal,
    known_part,
    part_folder,
    parts_of,
    unfinished,
    write_deal,
)
from emu2eval.runs.record import (
    MergedParts,
    RanOn,
    Record,
    is_run,
    known_record,
    read_record,
    write_record,
)
from emu2eval.runs.store import ANSWERS, RunStore
from emu2eval.spec.changes import Changes
from emu2eval.types import Used
from emu2eval.watch import Watcher

AT_ONCE = 256
"""Answers that are appended in one write."""
SHOWN = 6
"""Parts that an error names."""


@dataclass(frozen=True)
class Merged:
    """A run that was put together. added: answers that were not there before; unanswered: requests without
    an answer or an error; waiting: parts that have not ended."""

    result: Result
    added: int = 0
    unanswered: int = 0
    waiting: tuple[RunPart, ...] = ()


def merge(
    folder: str | Path,
    *,
    partial: bool = False,
    clean: bool = False,
    judge: str | None = None,
    changes: Changes | Mapping[str, Any] | None = None,
    watcher: Watcher | None = None,
) -> Merged:
    """Puts the parts of a run together, and scores it.

    partial: also where parts have not ended; what they have not answered is unscored. clean: removes the
    parts once their answers were read back from the run's own folder. judge, changes: as of `score_again`.
    Raises StoreError.
    """
    run, told = Path(folder), watcher or Watcher()
    deal = known_deal(run)
    if deal is None:
        if not is_run(run):
            raise StoreError(
                "this run has no parts", where=run, hint="emu2eval run … --part 1/2 answers one"
            )
        told.note(f"{run.name}: no parts are left to put together")
        return Merged(score_again(run, changes, judge=judge, watcher=told))
    waiting = [] if deal.merged else unfinished(run, deal)
    if waiting and not partial:
        raise _not_ended(run, deal, waiting)
    records = _records(run, deal)
    added = unanswered = failed = 0
    why = None
    if records:
        merging = _Merging(run, deal, records)
        if judge is not None:
            # What is wrong with it is said before anything is written.
            choose_judge([merging.questions.task], judge, Changes.of(changes or {}).judge)
        for line in merging.unlike_versions():
            told.note(line)
        added = merging.put_together()
        unanswered, failed, why = merging.lacking()
        if not unanswered and not deal.merged:
            write_deal(run, msgspec.structs.replace(deal, merged=True))
    elif not is_run(run):
        raise StoreError("no part of this run has begun", where=run, hint=_command(deal, 1))
    result = score_again(run, changes, judge=judge, watcher=told)
    if clean:
        _remove(run, deal)
    tally = replace(
        result.tally, kept=result.tally.kept - unanswered - failed, failed=failed, why=why
    )
    return Merged(replace(result, tally=tally), added, unanswered, tuple(waiting))


class _Merging:
    """The parts of one run, with its questions."""

    def __init__(self, run: Path, deal: Deal, records: Mapping[Path, Record]):
        self._run = run
        self._deal = deal
        self._records = records
        self.questions: Questions = reopen(next(iter(records))).questions
        self._seen: set[tuple[int, str]] = set()
        """Slot and key of every answer that the run's folder ever got."""
        self._failed: dict[str, Answer] = {}
        """What became of requests that failed, by their keys."""

    def put_together(self) -> int:
        """Appends whatever the run's own folder lacks, and writes its record; how many answers that is."""
        added = 0
        with RunStore(self._run).open_for_writing() as store:
            self._index(store)
            for folder in self._records:
                with self._part(folder) as part:
                    added += _append(store, self._lacked(store, part))
            # A twin's answer may be in any part.
            for folder in self._records:
                added += _append(store, self._lacked_twins(store, PartStore(folder)))
        known = known_record(self._run)
        before = known.merged if known is not None else None
        # Where parts were being removed when that was stopped, all is said already.
        if before is None or before.deal != self._deal.id or before.parts <= len(self._records):
            write_record(self._run, self._record())
        return added

    def lacking(self) -> tuple[int, int, str | None]:
        """Read back: requests without an answer, those that failed, and the first error."""
        with RunStore(self._run) as store:
            return self._lacking(store)

    def _lacking(self, store: RunStore) -> tuple[int, int, str | None]:
        self._index(store)
        slots = [self.questions.slot(place) for place in self.questions]
        failed = [slot for slot in slots if store.failed(slot)]
        first = store.stored(failed[0]) if failed else None
        unanswered = sum(not store.known(slot) for slot in slots)
        return unanswered, len(failed), first.error if first is not None else None

    def all_there(self) -> bool:
        """Read back: the run's own folder holds all that the parts do."""
        store = RunStore(self._run)
        self._index(store)
        for folder in self._records:
            with self._part(folder) as part:
                if next(self._lacked(store, part), None) is not None:
                    return False
        return True

    def unlike_versions(self) -> Iterator[str]:
        """What parts were asked with other packages, in words."""
        (first, ours), *others = self._records.items()
        for folder, record in others:
            found = differences(ours.versions, record.versions)
            if found:
                yield f"{self._run.name}: in {folder.name}, unlike in {first.name}, {'; '.join(found)}"

    # -- inside -----------------------------------------------------------------------------------

    def _index(self, store: RunStore) -> None:
        seen = self._seen = set()

        def slot_of(answer: Answer) -> int | None:
            slot = self.questions.slot_of(answer)
            if slot is not None and answer.error is None:
                seen.add((slot, answer.key))
            return slot

        store.index(slot_of, self.questions.slots, whole=True)

    def _part(self, folder: Path) -> PartStore:
        store = PartStore(folder)
        store.index(self.questions.slot_of, self.questions.slots, whole=True)
        return store

    def _lacked(
        self, store: RunStore, part: PartStore
    ) -> Iterator[tuple[int, Answer, PartStore | None]]:
        for place in self.questions:
            slot = self.questions.slot(place)
            answer = part.stored(slot)
            if answer is None:
                continue
            if answer.error is not None:
                self._failed.setdefault(answer.key, answer)
            if self._lacks(store, slot, answer):
                yield slot, answer, part

    def _lacked_twins(
        self, store: RunStore, part: PartStore
    ) -> Iterator[tuple[int, Answer, PartStore | None]]:
        latest: dict[tuple[str, int, int], Twin] = {
            (twin.id, twin.trial, twin.take): twin for twin in part.twins()
        }
        for twin in latest.values():
            answer = store.twin(twin.key) or self._failed.get(twin.key)
            if answer is None:
                continue  # whoever is asked it has not ended
            copy = twin.copy(answer)
            slot = self.questions.slot_of(copy)
            if slot is not None and self._lacks(store, slot, copy):
                yield slot, copy, None

    def _lacks(self, store: RunStore, slot: int, answer: Answer) -> bool:
        """Whether the run's folder would be better off with this. One that was there before and was
        overtaken since stays so."""
        answered = store.known(slot) and not store.failed(slot)
        if answer.error is not None:
            return not store.known(slot)
        return not answered or (
            not store.has(slot, answer.key) and (slot, answer.key) not in self._seen
        )

    def _record(self) -> Record:
        """run.json of the whole."""
        records, known = list(self._records.values()), known_record(self._run)
        before = known.ran_on if known is not None else ()
        now = self._ran_on()
        others = (
            each
            for each in before
            if not (each.parts and any(_setting(each) == _setting(new) for new in now))
        )
        # What this deal's parts had spent when they were put together before is counted anew.
        spent = Used() + (known.spent or Used()) if known is not None else Used()
        merged = known.merged if known is not None else None
        if merged is not None and merged.deal == self._deal.id and merged.spent is not None:
            spent = spent.since(merged.spent)
        of_parts = sum((each.spent for each in records if each.spent is not None), Used())
        total = spent + of_parts
        labels = (each.label for each in (*records, *([known] if known is not None else ())))
        return msgspec.structs.replace(
            records[0],
            label=next(filter(None, labels), None),
            ran_on=(*others, *now),
            spent=total if total != Used() else None,
            merged=MergedParts(
                deal=self._deal.id,
                parts=len(records),
                spent=of_parts if of_parts != Used() else None,
            ),
        )

    def _ran_on(self) -> list[RanOn]:
        """What the parts ran on, added up where they were asked alike."""
        alike: dict[object, list[tuple[Path, RanOn]]] = {}
        for folder, record in self._records.items():
            for each in record.ran_on[-1:]:
                alike.setdefault(_setting(each), []).append((folder, each))
        return [_added_up(each) for each in alike.values()]


def _setting(each: RanOn) -> object:
    return each.extent, each.batch


def _added_up(parts: Sequence[tuple[Path, RanOn]]) -> RanOn:
    devices: Counter[str] = Counter()
    for _, each in parts:
        devices.update(each.devices)
    names = {known.host for folder, _ in parts if (known := known_part(folder)) is not None}
    elsewhere = sum(each.hosts - 1 for _, each in parts)
    return msgspec.structs.replace(
        parts[0][1],
        replicas=sum(each.replicas for _, each in parts),
        hosts=max(1, len(names)) + elsewhere,
        devices=dict(devices),
        parts=len(parts),
    )


def _append(store: RunStore, answers: Iterable[tuple[int, Answer, PartStore | None]]) -> int:
    """Appends answers with their images; a twin's are there already."""
    added = 0
    rows: list[tuple[int, Answer]] = []
    for slot, answer, part in answers:
        if part is not None:
            for digest in answer.images:
                store.save_image(part.image(digest))
        rows.append((slot, answer))
        added += 1
        if len(rows) == AT_ONCE:
            store.append(rows)
            rows = []
    if rows:
        store.append(rows)
    return added


def _records(run: Path, deal: Deal) -> dict[Path, Record]:
    """The parts that have begun. Raises StoreError where they are not of one run."""
    found: dict[Path, Record] = {}
    for folder in parts_of(run):
        known = known_part(folder)
        if known is None or known.deal != deal.id or not is_run(folder):
            continue
        found[folder] = read_record(folder)
    if not found:
        return {}
    first, ours = next(iter(found.items()))
    for folder, record in found.items():
        unlike = differences(*map(msgspec.to_builtins, (ours.identity, record.identity)))
        if unlike:
            raise StoreError(
                f"{folder.name} is of another run than {first.name}: {'; '.join(unlike[:3])}",
                where=run / FOLDER,
                hint="answer it again with the same command as the others",
            )
    return found


def _not_ended(run: Path, deal: Deal, waiting: Sequence[RunPart]) -> StoreError:
    said = [f"{part} {_so_far(run, part)}" for part in waiting[:SHOWN]]
    more = f" and {len(waiting) - SHOWN} more" if len(waiting) > SHOWN else ""
    have = "part has" if len(waiting) == 1 else "parts have"
    return StoreError(
        f"{len(waiting)} {have} not ended: {', '.join(said)}{more}",
        where=run,
        hint=f"{_command(deal, waiting[0].number)}"
        + (" (and so on)" if len(waiting) > 1 else "")
        + f"; or, to score what there is: emu2eval merge {run.name} --partial",
    )


def _so_far(run: Path, part: RunPart) -> str:
    """How far a part is, in words."""
    folder = part_folder(run, part)
    known = known_part(folder)
    if known is not None:
        path = folder / ANSWERS
        answers = path.read_bytes().count(b"\n") if path.exists() else 0
        return f"({answers:,} answers so far, on {known.host})"
    # Other weights or data on a node make another run of it.
    for other in sorted(run.parent.glob(f"{run.name.rpartition('_')[0]}_*")):
        record = known_record(part_folder(other, part))
        ours = next(map(known_record, parts_of(run)), None)
        if other != run and record is not None and ours is not None:
            unlike = differences(*map(msgspec.to_builtins, (ours.identity, record.identity)))
            return f"(not begun, but in {other.name} there is one, where {'; '.join(unlike[:3])})"
    return "(not begun)"


def _command(deal: Deal, number: int) -> str:
    """What answers a part."""
    typed = shlex.join(deal.command) if deal.command else "run …"
    return f"emu2eval {typed} --part {number}/{deal.of}"


def _remove(run: Path, deal: Deal) -> None:
    """Removes the parts, after a look that all of theirs is in the run's own folder."""
    with explained(run), ExitStack() as locks:
        for folder in parts_of(run):
            lock = take(folder)
            if lock is None:
                raise StoreError(
                    f"{folder.name} is still being answered, so the parts are not removed",
                    where=run / FOLDER,
                    hint=f"when it has ended: emu2eval merge {run.name} --clean",
                )
            locks.enter_context(lock)
        records = _records(run, deal)
        if records and not _Merging(run, deal, records).all_there():
            raise StoreError(
                "the run's folder does not hold all answers of its parts, which are not removed",
                where=run,
                hint=f"emu2eval merge {run.name} --clean",
            )
    with explained(run):
        # What says that there are parts goes last, so that a stop in between is seen.
        for folder in parts_of(run):
            shutil.rmtree(folder)
        shutil.rmtree(run / FOLDER)
