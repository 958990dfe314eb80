"""Carries out what is planned: looks ahead, asks, has it judged and scores, one model after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from emu2eval.adapters.base import Adapter
from emu2eval.adapters.memory import Workload
from emu2eval.engine import held
from emu2eval.engine.backends.base import Backend
from emu2eval.engine.backends.encoding import Encoders
from emu2eval.engine.cost import costs
from emu2eval.engine.cutting import BatchSize
from emu2eval.engine.judges import Scoring
from emu2eval.engine.keeping import Keeping, continued, cut_alike, program_of
from emu2eval.engine.live import Live
from emu2eval.engine.options import AUTO
from emu2eval.engine.parts import refuse_in_parts, run_part
from emu2eval.engine.plan import Plan
from emu2eval.engine.planned import PlannedRun, each_once
from emu2eval.engine.results import Result
from emu2eval.engine.runner import Tally, batch_size, execute
from emu2eval.engine.spending import Spending
from emu2eval.engine.supplies import NamedPart, bring
from emu2eval.errors import of_part
from emu2eval.runs.record import RanOn, Record, is_run, known_record
from emu2eval.runs.store import RunStore
from emu2eval.types import Used
from emu2eval.watch import RunStart, Watcher


def carry_out(groups: Sequence[Sequence[PlannedRun]], told: Watcher) -> list[Result]:
    """Checks all of the runs, then asks and scores them; each model is loaded once for its own."""
    loads = [_Load(group, told) for group in groups]
    try:
        return _carried_out(loads, told)
    finally:
        # A model that somebody else goes on with is given back, whatever happened.
        for load in loads:
            load.backend.close()


class _Load:
    """The runs of one model, and whatever runs it."""

    def __init__(self, runs: Sequence[PlannedRun], told: Watcher):
        plan = runs[0].plan
        self.runs = runs
        self.adapter = plan.adapter
        self.backend = runs[0].options.where.backend(plan.model, plan.adapter, told)
        self._sizes: dict[int, BatchSize] = {}

    def look(self) -> None:
        """Sees what the requests are like, before weights are read: that decides where they go, and how
        many are asked together."""
        known = {id(run.plan): self._workload(run) for run in self.runs}
        told = filter(None, known.values())
        longest = max(told, key=lambda each: each.positions or 0, default=None)
        self.adapter.workload = longest
        self.backend.settle()
        for run in self.runs:
            self.adapter.workload = known[id(run.plan)]
            # A plan needs the memory as it is before weights are read.
            self._sizes[id(run.plan)] = batch_size(self.adapter, run.options.batch)
        self.adapter.workload = longest

    def _workload(self, run: PlannedRun) -> Workload | None:
        workload, asked = run.plan.workload(), run.options.batch
        if workload is None or not isinstance(asked, int):
            return workload
        return replace(workload, batch=asked)

    def size(self, run: PlannedRun) -> BatchSize:
        return self._sizes[id(run.plan)]


def _carried_out(loads: Sequence[_Load], told: Watcher) -> list[Result]:
    runs = [run for load in loads for run in load.runs]
    every = [run.plan for run in runs]
    bring({id(each.part): each for each in _choosing(every)}.values(), told)
    for task in {id(plan.task): plan.task for plan in every}.values():
        with of_part("scorer", task.scoring.name):
            task.scorer.try_out()
    for load in loads:
        where = load.runs[0].options.where
        with closing(Encoders(where, told)) as encoders:
            for run in load.runs:
                route = None if where.here else encoders
                at_once = load.backend.at_once
                run.plan.prepare(load.backend.encode, told.working, route, at_once)
                run.plan.check_first()
        load.look()
        if len(loads) > 1:
            # Two models may not fit. What was seen through this one is remembered.
            load.backend.close()
    once = each_once([load.runs for load in loads])
    for line in dict.fromkeys(line for plan in every for line in plan.warnings()):
        told.note(line)
    estimates = costs(once)
    before = [_used(each.adapter) for each in estimates]
    for each in estimates:
        told.note(each.line)
    results = []
    with ExitStack() as open_judges:
        scorings: dict[int, Scoring] = {}
        for run in runs:
            if id(run.judge) not in scorings:
                scoring = Scoring(run.judge, told, run.options.where)
                scorings[id(run.judge)] = open_judges.enter_context(scoring)
        # A judge that takes the models' devices has its turn once these are done.
        waiting = open_judges.enter_context(ExitStack())
        later: list[tuple[_Asked, Scoring]] = []
        for load, own in zip(loads, once, strict=True):
            with closing(load.backend):
                for run in own:
                    if run.options.part is not None:
                        results.append(run_part(run, told, load.backend, load.size(run)))
                        continue
                    scoring = scorings[id(run.judge)]
                    with ExitStack() as until:
                        stack = waiting if scoring.apart else until
                        asked = ask_plan(run, told, load.backend, load.size(run), stack)
                        if scoring.apart:
                            later.append((asked, scoring))
                            continue
                        results.append(asked.scored(scoring))
                        told.finished(results[-1].end)
        for asked, scoring in later:
            results.append(asked.scored(scoring))
            told.finished(results[-1].end)
    for each, known in zip(estimates, before, strict=True):
        used = _used(each.adapter).since(known)
        if used.requests:
            told.note(each.beside(used))
    return results


def _used(adapter: Adapter | None) -> Used:
    return (adapter.used() if adapter is not None else None) or Used()


def _choosing(plans: Sequence[Plan]) -> Iterator[NamedPart]:
    for plan in plans:
        if plan.prompts.chooser is not None:
            yield NamedPart("chooser", plan.task.spec.demonstrations.chooser, plan.prompts.chooser)


@dataclass(frozen=True)
class _Asked:
    """A run whose answers are stored; its store is open."""

    plan: Plan
    store: RunStore
    record: Record
    tally: Tally

    def scored(self, scoring: Scoring) -> Result:
        """Judges it, where it needs that, and scores it."""
        rows, judged, unread = scoring(self.record, self.plan.questions, self.store)
        return Result(rows, self.store.folder, self.tally, judged, unread)


def ask_plan(
    run: PlannedRun, watcher: Watcher, backend: Backend, size: BatchSize, until: ExitStack
) -> _Asked:
    """Asks and stores one run. until: closes its store."""
    plan, options, folder = run.plan, run.options, run.folder
    refuse_in_parts(folder)
    store = until.enter_context(RunStore(folder).open_for_writing())
    _tell_of_more(plan, folder, watcher)
    plan.prepare(backend.encode, watcher.working)
    known = known_record(folder)
    same = known is not None and program_of(known) == program_of(plan.record)
    keeping = Keeping(folder, continued(plan, options, known))
    held.index(plan, store, same_program=same)
    for line in store.lost():
        watcher.note(f"{line}; running them again")
    watcher.starting(RunStart(plan.task.name, plan.name, plan.setting, len(plan), folder))
    live = Live(plan, store, folder, watcher.scored) if watcher.follows_scores else None
    now = RanOn(extent=plan.extent, batch=None if size.growing else size.now)
    # A setting in which nothing was answered says nothing of the batches that were.
    before = msgspec.structs.replace(keeping.record, ran_on=()) if store.empty else keeping.record
    exact = store.empty or cut_alike(known, now)

    def ready() -> None:
        # What is there already is scored beside what comes, and not where nothing comes.
        if live is not None:
            live.kept()
            store.heard = live
        backend.load()
        keeping(ran_on=before.ran(backend.ran_on(now)))

    with Spending(plan.adapter, keeping.record.spent, lambda used: keeping(spent=used)) as spent:
        tell = spent.telling(watcher.settled)
        tally = execute(
            plan,
            store,
            backend,
            ready=ready,
            size=size,
            exact=exact,
            progress=tell,
            stopping=watcher.stopping,
        )
    if tally.asked:
        # More replicas may have come since.
        keeping(ran_on=before.ran(backend.ran_on(now)))
    if not same:
        keeping(versions=plan.record.versions)
    if live is not None and live.count:
        live.now()
    if options.batch == AUTO and tally.batch is not None:
        asked = f"--batch auto used batches of up to {tally.batch}"
        watcher.note(f"{plan.task.name}, {plan.name}, {plan.setting} shots: {asked}")
    return _Asked(plan, store, keeping.record, tally)


def _tell_of_more(plan: Plan, folder: Path, watcher: Watcher) -> None:
    """Says that the folder holds answers which were not asked for now. They stay, and are not scored."""
    if not is_run(folder):
        return
    known = known_record(folder)
    if known is None:
        watcher.note(f"{folder}/run.json was damaged and has been rewritten")
    elif not known.extent.within(plan.extent):
        watcher.note(
            f"{folder.name} contains answers beyond this limit or these trials; they are kept, "
            "and the table covers what was requested now"
        )
