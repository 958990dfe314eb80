"""Answers one part of a run, in a folder of its own; `merging` puts them together."""

from __future__ import annotations

import socket
from functools import partial
from pathlib import Path

import msgspec

from emu2eval.adapters.base import BatchRange
from emu2eval.engine import held
from emu2eval.engine.asking import streams
from emu2eval.engine.backends.base import Backend
from emu2eval.engine.cutting import BatchSize
from emu2eval.engine.dealing import PartCutting, deal_of
from emu2eval.engine.keeping import Keeping, continued, program_of
from emu2eval.engine.options import AUTO
from emu2eval.engine.plan import Plan, Planned
from emu2eval.engine.planned import PlannedRun
from emu2eval.engine.results import Result
from emu2eval.engine.runner import Tally, execute
from emu2eval.engine.spending import Spending
from emu2eval.errors import StoreError
from emu2eval.runs.parts import (
    Deal,
    PartRecord,
    PartStore,
    Twin,
    part_folder,
    settled,
    unmerged,
    write_part,
)
from emu2eval.runs.record import RanOn, Record, known_record
from emu2eval.runs.store import RunStore
from emu2eval.watch import RunStart, Watcher


def refuse_in_parts(folder: Path) -> None:
    """Raises StoreError for a run that is answered in parts, which would all be asked once more."""
    said = unmerged(folder)
    if said is not None:
        raise StoreError(
            said,
            where=folder,
            hint=f"emu2eval merge {folder.name}; or, to go on without parts, first: "
            f"emu2eval merge {folder.name} --partial --clean",
        )


def run_part(run: PlannedRun, watcher: Watcher, backend: Backend, size: BatchSize) -> Result:
    """Asks and stores a part's share of one run; nothing is judged or scored."""
    plan, part, whole = run.plan, run.options.part, run.folder
    assert part is not None
    plan.prepare(backend.encode, watcher.working)
    one_by_one = streams(plan.adapter)
    deal = settled(
        whole,
        deal_of(plan, part, size, streams=one_by_one),
        any_batch=run.options.batch == AUTO,
    )
    if deal.batch is not None and not one_by_one:
        size = BatchSize(BatchRange(deal.batch))
    folder = part_folder(whole, part)
    name = f"{plan.task.name}, {plan.name}, {plan.setting} shots"
    if part.number > deal.busy:
        watcher.note(f"{name}: {empty(deal)}")
        return Result([], folder, Tally())
    with PartStore(folder).open_for_writing() as store:
        about = PartRecord(deal=deal.id, number=part.number, of=part.of, host=socket.gethostname())
        write_part(folder, about)
        keeping = _indexed(plan, run, store, whole, watcher)
        if deal.busy < deal.of and part.number == 1:
            watcher.note(f"{name}: {empty(deal)}")
        requests = deal.requests_of(part.number)
        model = f"{plan.name} · part {part}"
        watcher.starting(RunStart(plan.task.name, model, plan.setting, requests, folder))
        now = RanOn(extent=plan.extent, batch=None if size.growing else size.now)
        before = keeping.record

        def ready() -> None:
            backend.load()
            keeping(ran_on=before.ran(backend.ran_on(now)))

        with Spending(
            plan.adapter, keeping.record.spent, lambda used: keeping(spent=used)
        ) as spent:
            tell = spent.telling(watcher.settled)

            def twin(planned: Planned) -> None:
                store.add_twin(_twin(planned))
                tell(1)

            cut = partial(PartCutting, deal=deal, number=part.number, twin=twin)
            tally = execute(plan, store, backend, ready=ready, size=size, progress=tell, cut=cut)
        if tally.asked:
            keeping(ran_on=before.ran(backend.ran_on(now)))
        keeping(versions=plan.record.versions)
        write_part(folder, msgspec.structs.replace(about, ended=True))
    for again in tally.again.values():
        watcher.note(
            f"{name}: {again.batches:,} batches were asked again in smaller ones: {again.why}"
        )
    return Result([], folder, tally)


def empty(deal: Deal) -> str:
    """Which parts have nothing to do, in a sentence."""
    asked = f"{deal.requests:,} {'request' if deal.requests == 1 else 'requests'}"
    cut = f" in batches of {deal.batch}" if deal.batch is not None else ""
    some = "only part 1 has" if deal.busy == 1 else f"only parts 1 to {deal.busy} have"
    return f"{asked}{cut}: {some} anything to do, of {deal.of}"


def _indexed(
    plan: Plan, run: PlannedRun, store: PartStore, whole: Path, watcher: Watcher
) -> Keeping:
    """Reads the part's answers, and those that the run's own folder holds."""
    merged, known = RunStore(whole), known_record(store.folder)
    keeping = Keeping(store.folder, continued(plan, run.options, known))
    held.index(plan, merged, same_program=_same(plan, known_record(whole)))
    held.index(plan, store, same_program=_same(plan, known))
    store.before(merged)
    for line in store.lost():
        watcher.note(f"{line}; running them again")
    return keeping


def _same(plan: Plan, known: Record | None) -> bool:
    return known is not None and program_of(known) == program_of(plan.record)


def _twin(planned: Planned) -> Twin:
    return Twin(
        id=planned.id,
        trial=planned.trial,
        take=planned.take,
        key=planned.request.key,
        examples=planned.examples,
        left_out=planned.left_out,
    )
