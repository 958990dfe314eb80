"""The whole way: tasks and models in, rows of a table out. What the command line calls."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import msgspec

from emu2eval.adapters.base import Adapter
from emu2eval.adapters.memory import Workload
from emu2eval.engine import held
from emu2eval.engine.backends.base import Backend
from emu2eval.engine.backends.encoding import Encoders
from emu2eval.engine.cost import costs
from emu2eval.engine.cutting import BatchSize
from emu2eval.engine.judges import Scoring, choose_judge
from emu2eval.engine.keeping import Keeping, continued, cut_alike, program_of
from emu2eval.engine.live import Live
from emu2eval.engine.models import OpenModel, open_model
from emu2eval.engine.objects import InMemory
from emu2eval.engine.options import AUTO, AnyScorer, RunOptions
from emu2eval.engine.parts import refuse_in_parts, run_part
from emu2eval.engine.plan import Plan
from emu2eval.engine.planned import PlannedRun, each_once
from emu2eval.engine.prompting import Prompts
from emu2eval.engine.questions import questions_of
from emu2eval.engine.results import Result
from emu2eval.engine.runner import Tally, batch_size, execute
from emu2eval.engine.spending import Spending
from emu2eval.engine.splits import Splits
from emu2eval.engine.supplies import NamedPart, bring
from emu2eval.engine.tasks import OpenTask, open_task
from emu2eval.engine.wanted import AnyTask, wanted, wanted_models
from emu2eval.errors import ConfigError, of_part
from emu2eval.fewshot.ablate import changes_nothing
from emu2eval.runs.record import LeftOut, RanOn, Record, is_run, known_record
from emu2eval.runs.store import RunStore
from emu2eval.spec.changes import Changes
from emu2eval.spec.model import ModelSpec
from emu2eval.types import Shots, TextOutput, Used
from emu2eval.watch import RunStart, Watcher

AnyModel = str | Path | ModelSpec | Adapter | type[Adapter] | InMemory | Callable[..., Any]
"""A model by name, by a path, or as `load_model` gives it; an adapter, or its class; a loaded model of
transformers, or an Emu2; a function from a `Prompt` to a text; one of these as `InMemory`."""


def evaluate(
    task: AnyTask | Sequence[AnyTask],
    model: AnyModel | Sequence[AnyModel],
    *,
    processor: Any = None,
    name: str | None = None,
    version: str | None = None,
    shots: int | str | Sequence[int | str] = (),
    limit: int | float | None = None,
    trials: int = 1,
    seed: int = 0,
    protocol: str | None = None,
    split: str | None = None,
    source: str | None = None,
    ablate: str | Sequence[str] = "none",
    fit: bool = False,
    skip_missing: bool = False,
    judge: str | None = None,
    label: str | None = None,
    scorer: AnyScorer | None = None,
    changes: Changes | Mapping[str, Any] | Sequence[str] = (),
    out: str | Path | None = None,
    batch: int | str | None = None,
    device: str | None = None,
    replicas: int | str | None = None,
    cluster: str | None = None,
    part: str | None = None,
    engine: str | None = None,
    watcher: Watcher | None = None,
) -> list[Result]:
    """Runs every task with every model at every number of shots, or continues where a run stopped.

    Each answer is stored as it arrives; running it again sends only the missing requests. Raises
    UserError.

    task: by name or path, also a suite, a list with commas or a pattern, such as "vl_icl_*". model: likewise;
    also a loaded transformers model, which is used in memory and left unchanged, or a function from a
    `Prompt` to a text; processor, name, version: as of `InMemory`, for one such model.
    seed: of all draws; protocol, split, source, judge, label: as on the command line; watcher: receives
    progress.
    shots: numbers of demonstrations, by default a suite's own, else 0; "0*" shows them without their images.
    limit: number of queries, or a fraction if below 1, as a fixed random subset; trials: repeated draws
    of demonstrations, and of answers if the model samples (temperature). ablate: "labels", "images",
    "blank", "order". fit: drop the farthest demonstrations of prompts that are too long.
    skip_missing: leave out samples whose image or video file is missing, which the rows count. scorer:
    used instead of the task's; can be a function (prediction, references) -> float. changes: to the
    task's and the model's files, such as {"task": {"output": {"max_new_tokens": 20}}}. out: the folder
    of runs. batch: requests at a time, or "auto" for as many as fit; device: such as "cuda:1", for
    models on this machine. engine: a serving engine that is started for the model: "vllm", "sglang",
    "llama.cpp" or "transformers". replicas: copies of a model that answer side by side, each in a process of
    its own, or "auto"; cluster: where those are, the address of Ray's head, or "auto". part: "3/16" answers
    only the third of sixteen parts, which `merge` puts together; the results then have no rows.

    >>> evaluate("easy-vqa", "most-common", shots=4, limit=50)[0].rows[0].value  # doctest: +SKIP
    12.0
    """
    options = RunOptions.of(
        shots=shots,
        limit=limit,
        trials=trials,
        seed=seed,
        protocol=protocol,
        split=split,
        source=source,
        ablate=ablate,
        fit=fit,
        skip_missing=skip_missing,
        judge=judge,
        label=label,
        scorer=scorer,
        changes=changes,
        out=out,
        batch=batch,
        device=device,
        replicas=replicas,
        cluster=cluster,
        part=part,
        engine=engine,
    )
    models = _several(model)
    if (processor, name, version) != (None, None, None):
        models = [_described(models, processor, name, version)]
    return run_all(_several(task), models, options, watcher)


@dataclass(frozen=True)
class Job:
    """A task for a model: a run for every number of shots and every ablation of its options."""

    task: AnyTask
    model: AnyModel
    options: RunOptions


def run_all(
    tasks: Sequence[AnyTask],
    models: Sequence[AnyModel],
    options: RunOptions,
    watcher: Watcher | None = None,
) -> list[Result]:
    """`evaluate`, with options that are checked already."""
    told = watcher or Watcher()
    return carry_out(planned(jobs_of(tasks, models, options), told, fetch=True), told)


def _described(
    models: Sequence[AnyModel], processor: Any, name: str | None, version: str | None
) -> InMemory:
    """Raises ConfigError for several models, or one that is no object."""
    if len(models) != 1 or isinstance(models[0], str | Path | ModelSpec | InMemory | type):
        raise ConfigError(
            "processor, name and version apply only to a single model given as an object",
            hint="evaluate(task, my_model, processor=…, name=…); for several models: "
            "evaluate(task, [InMemory(first, name=…), InMemory(second, name=…)])",
        )
    return InMemory(models[0], processor, name, version)


def plans(
    tasks: Sequence[AnyTask],
    models: Sequence[AnyModel],
    options: RunOptions,
    watcher: Watcher | None = None,
) -> Iterator[list[Plan]]:
    """For each model, the plans of all its runs, as `planned` makes them."""
    for group in planned(jobs_of(tasks, models, options), watcher):
        yield [run.plan for run in group]


def jobs_of(tasks: Sequence[AnyTask], models: Sequence[AnyModel], options: RunOptions) -> list[Job]:
    """Suites, lists and patterns are written out; every task once for every model."""
    asked, models = wanted(tasks, options), wanted_models(models)
    if options.label and len(models) > 1:
        raise ConfigError(
            f"--label names a single model, but {len(models)} are given",
            hint="use one --model per command",
        )
    return [Job(each.task, model, each.options) for model in models for each in asked]


def planned(
    jobs: Sequence[Job], watcher: Watcher | None = None, *, fetch: bool = False
) -> list[list[PlannedRun]]:
    """For each model as it is set, all its runs, not yet checked against its limits; each run once.

    fetch: what models and scorers lack is downloaded, where that can be; a dry run needs no scorers. Raises
    UserError with all that is wrong in a file, or is missing, before the first data is read.
    """
    told = watcher or Watcher()
    tasks: dict[Hashable, OpenTask] = {}
    models: dict[Hashable, OpenModel] = {}
    judged: dict[Hashable, list[OpenTask]] = {}
    for job in jobs:
        if (key := _task_key(job)) not in tasks:
            tasks[key] = _open_task(job, told)
        judged.setdefault(_judge_key(job), []).append(tasks[key])
    judges = {}
    for job in jobs:
        if (key := _judge_key(job)) not in judges:
            options = job.options
            # Parts ask no judge: `merge` does.
            judges[key] = (
                choose_judge(judged[key], options.judge, options.changes.judge)
                if options.part is None
                else None
            )
    for job in jobs:
        if (key := _model_key(job)) not in models:
            options = job.options
            models[key] = open_model(
                _name(job.model),
                options.changes,
                options.device,
                options.where.machine(),
                options.engine,
            )
            models[key].adapter.tell = told.note
            if models[key].unstated and options.part is not None:
                raise ConfigError(
                    f"nothing identifies {models[key].spec.name}, so parts of other processes would not be "
                    "of the same run",
                    where="--part",
                    hint="give it a version: evaluate(…, name=…, version=…, part=…)",
                )
            if models[key].unstated:
                told.note(UNSTATED.format(name=models[key].spec.name))
    scorers = [task.scoring for task in tasks.values()] if fetch else []
    bring([*(model.part for model in models.values()), *scorers], told, fetch=fetch)
    data = {skip: Splits(told, skip) for skip in (False, True)}
    groups: dict[Hashable, list[PlannedRun]] = {key: [] for key in models}
    for job in jobs:
        task, model, options = tasks[_task_key(job)], models[_model_key(job)], job.options
        for shots, ablation in _settings(task, options, told):
            plan = make_plan(task, model, shots, options, data[options.skip_missing], ablation)
            run = PlannedRun(plan, options, judges[_judge_key(job)])
            if plan.extent.trials > plan.questions.trials:
                told.note(
                    f"{task.name}, {plan.name}, {plan.setting} shots: nothing is drawn at random, "
                    "so one trial "
                    f"replaces {plan.extent.trials}"
                )
            groups[_model_key(job)].append(run)
    return each_once([group for group in groups.values() if group], named=lambda run: run.named)


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
        with closing(Encoders(load.runs[0].options.where, told)) as encoders:
            for run in load.runs:
                run.plan.prepare(load.backend.encode, told.working, encoders, load.backend.at_once)
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


UNSTATED = (
    "the answers of {name} cannot be reused by another process, because nothing identifies the model; to "
    "reuse them, give it a version, and change that whenever the model changes: evaluate(…, "
    "name=…, version=…)"
)


def _used(adapter: Adapter | None) -> Used:
    return (adapter.used() if adapter is not None else None) or Used()


def _choosing(plans: Sequence[Plan]) -> Iterator[NamedPart]:
    for plan in plans:
        if plan.prompts.chooser is not None:
            yield NamedPart("chooser", plan.task.spec.demonstrations.chooser, plan.prompts.chooser)


def _open_task(job: Job, told: Watcher) -> OpenTask:
    options = job.options
    return open_task(
        _name(job.task),
        options.changes,
        shots=options.shots,
        protocol=options.protocol,
        split=options.split,
        source=options.source,
        note=told.note,
    )


def _task_key(job: Job) -> Hashable:
    options = job.options
    asked = (options.shots, options.protocol, options.split, options.source)
    return (_same(job.task), repr(options.changes.task), *asked)


def _model_key(job: Job) -> Hashable:
    options = job.options
    return (_same(job.model), repr(options.changes.model), options.where, options.engine)


def _run_key(job: Job, shots: Shots, ablation: str) -> Hashable:
    """Equal for what would be the same run. Its folder's name is not known yet: a chooser may look through
    the model."""
    options = msgspec.structs.replace(job.options, shots=(), ablate=("none",))
    return (_same(job.task), str(shots), ablation, repr(options))


def _judge_key(job: Job) -> Hashable:
    return (job.options.judge, repr(job.options.changes.judge))


def _same(given: AnyTask | AnyModel) -> Hashable:
    """Equal for what is opened once: a name by itself, an object by its identity."""
    return str(given) if isinstance(given, str | Path) else id(given)


def make_plan(
    task: OpenTask,
    model: OpenModel,
    shots: Shots,
    options: RunOptions,
    data: Splits,
    ablation: str = "none",
) -> Plan:
    """The plan of one run; reads the splits it needs."""
    samples = data.split(task, task.split, shots=shots.count)
    lost = data.missing(task, task.split, samples)
    pool, chooser = None, None
    unshown: tuple[str, ...] = ()
    if shots.count:
        unshown = data.missing(task, task.pool_split, data.pool(task))
        pool, chooser = data.chooser(task, options.seed, unshown)
    sampled = model.adapter.samples and task.spec.output.kind == TextOutput.kind
    extent = options.extent(len(samples))
    questions = questions_of(task, samples, shots, extent, without=lost, sampled=sampled)
    prompts = Prompts(questions, shots, pool, chooser, options.seed, ablation)
    left_out = LeftOut(queries=lost, demonstrations=unshown)
    return Plan(prompts, model.spec, model.adapter, options.fit, extent, options.changes, left_out)


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
    before = keeping.record
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


def _settings(task: OpenTask, options: RunOptions, watcher: Watcher) -> Iterator[tuple[Shots, str]]:
    """Every number of shots with every ablation that has something to take away from them."""
    every = dict.fromkeys(task.shots(each) for each in options.shots or ("0",))
    for shots, ablation in product(every, options.ablate):
        if changes_nothing(ablation, shots.count, shots.text_only):
            watcher.note(f"{task.name}, {shots} shots: --ablate {ablation} has nothing to remove")
        else:
            yield shots, ablation


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


def _several(given: Any) -> list[Any]:
    return list(given) if isinstance(given, (list, tuple)) else [given]


def _name(given: Any) -> Any:
    return str(given) if isinstance(given, Path) else given
