"""The whole way: tasks and models in, rows of a table out. What the command line calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from emu2eval.adapters.base import Adapter
from emu2eval.engine.cost import costs
from emu2eval.engine.judges import Scoring, choose_judge
from emu2eval.engine.models import OpenModel, open_model
from emu2eval.engine.options import RunOptions
from emu2eval.engine.plan import Plan
from emu2eval.engine.prompting import Prompts
from emu2eval.engine.questions import questions_of
from emu2eval.engine.results import Result
from emu2eval.engine.runner import Loader, execute
from emu2eval.engine.splits import Splits
from emu2eval.engine.supplies import NamedPart, bring
from emu2eval.engine.tasks import OpenTask, open_task
from emu2eval.errors import of_part
from emu2eval.fewshot.ablate import changes_nothing
from emu2eval.runs.names import below
from emu2eval.runs.record import LeftOut, is_run, known_record, write_record
from emu2eval.runs.store import RunStore
from emu2eval.spec.changes import Changes
from emu2eval.spec.model import ModelSpec
from emu2eval.spec.task import Task
from emu2eval.types import Shots
from emu2eval.watch import RunStart, Watcher

AnyTask = str | Path | Task
"""A task by name, by the path of its YAML file, or as `load_task` gives it."""

AnyModel = str | Path | ModelSpec | Adapter | type[Adapter]
"""A model by name, by the path of its YAML file, or as `load_model` gives it; an adapter, or its class."""


def evaluate(
    task: AnyTask | Sequence[AnyTask],
    model: AnyModel | Sequence[AnyModel],
    *,
    shots: int | str | Sequence[int | str] = 0,
    limit: int | None = None,
    trials: int = 1,
    seed: int = 0,
    protocol: str | None = None,
    split: str | None = None,
    source: str | None = None,
    ablate: str | Sequence[str] = "none",
    fit: bool = False,
    skip_missing: bool = False,
    judge: str | None = None,
    changes: Changes | Mapping[str, Any] | Sequence[str] = (),
    out: str | Path | None = None,
    batch: int | None = None,
    watcher: Watcher | None = None,
) -> list[Result]:
    """Runs every task with every model at every number of shots, or continues where a run stopped.

    shots: numbers of demonstrations; "0*" shows them without their images. limit: so many queries, a fixed
    random subset; trials: repeated draws of demonstrations. ablate: "labels", "images", "blank", "order".
    fit: drop the farthest demonstrations of prompts that are too long. skip_missing: leave out samples whose
    image or video file is not there, which the rows count. changes: against the task's and the
    model's files, such as {"task": {"output": {"max_new_tokens": 20}}}. out: the folder of runs.
    Each answer is stored as it is given; running it again asks only what is missing. Raises UserError.

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
        changes=changes,
        out=out,
        batch=batch,
    )
    return run_all(_several(task), _several(model), options, watcher)


def run_all(
    tasks: Sequence[AnyTask],
    models: Sequence[AnyModel],
    options: RunOptions,
    watcher: Watcher | None = None,
) -> list[Result]:
    """`evaluate`, with options that are checked already."""
    told = watcher or Watcher()
    groups = list(plans(tasks, models, options, told, fetch=True))
    every = [plan for group in groups for plan in group]
    opened = list({id(plan.task): plan.task for plan in every}.values())
    bring({id(each.part): each for each in _choosing(every)}.values(), told)
    for task in opened:
        with of_part("scorer", task.scoring.name):
            task.scorer.try_out()
    judge = choose_judge(opened, options.judge, options.changes.judge)
    loaders = [Loader(g[0].adapter, partial(told.loading, g[0].name)) for g in groups]
    for group, loader in zip(groups, loaders, strict=True):
        for plan in group:
            plan.prepare(loader, told.working)
            plan.check_first()
        if len(groups) > 1 and loader.loaded:
            # Two models may not fit. What was seen through this one is remembered.
            loader.close()
    for line in dict.fromkeys(line for plan in every for line in plan.warnings()):
        told.note(line)
    for line in costs(groups, judge, options.folder):
        told.note(line)
    results = []
    with Scoring(judge, told) as scoring:
        for group, loader in zip(groups, loaders, strict=True):
            with closing(loader):
                for plan in group:
                    result = run_plan(plan, options, told, loader, scoring)
                    results.append(result)
                    told.finished(result.end)
    return results


def _choosing(plans: Sequence[Plan]) -> Iterator[NamedPart]:
    for plan in plans:
        if plan.prompts.chooser is not None:
            yield NamedPart("chooser", plan.task.spec.demonstrations.chooser, plan.prompts.chooser)


def plans(
    tasks: Sequence[AnyTask],
    models: Sequence[AnyModel],
    options: RunOptions,
    watcher: Watcher | None = None,
    *,
    fetch: bool = False,
) -> Iterator[list[Plan]]:
    """For each model, the plans of all its runs, not yet checked against its limits.

    fetch: what models and scorers lack is downloaded, where that can be; a dry run needs no scorers. Raises
    UserError with all that is wrong in a file, or is missing, before the first data is read.
    """
    told = watcher or Watcher()
    opened = [
        open_task(
            _name(task),
            options.changes,
            shots=options.shots,
            protocol=options.protocol,
            split=options.split,
            source=options.source,
            note=told.note,
        )
        for task in _once(tasks)
    ]
    choose_judge(opened, options.judge, options.changes.judge)
    data = Splits(told, options.skip_missing)
    known = [open_model(_name(each), options.changes) for each in _once(models)]
    scorers = [task.scoring for task in opened] if fetch else []
    bring([*(model.part for model in known), *scorers], told, fetch=fetch)
    for model in known:
        group = [
            make_plan(task, model, shots, options, data, ablation)
            for task in opened
            for shots, ablation in _wanted(task, options, told)
        ]
        if group:
            yield group


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
    questions = questions_of(task, samples, shots, options.extent, without=lost)
    prompts = Prompts(questions, shots, pool, chooser, options.seed, ablation)
    left_out = LeftOut(queries=lost, demonstrations=unshown)
    return Plan(
        prompts, model.spec, model.adapter, options.fit, options.extent, options.changes, left_out
    )


def run_plan(
    plan: Plan,
    options: RunOptions,
    watcher: Watcher,
    load: Callable[[], None],
    scoring: Scoring,
) -> Result:
    """Asks, stores, judges and scores one run."""
    folder = below(options.folder, plan.folder)
    with RunStore(folder).open_for_writing() as store:
        _tell_of_more(plan, folder, watcher)
        plan.prepare(load, watcher.working)
        write_record(folder, plan.record)
        store.index(plan.questions.slot_of, plan.questions.slots, whole=True)
        for line in store.lost():
            watcher.note(f"{line}, and asked again")
        watcher.starting(RunStart(plan.task.name, plan.name, plan.setting, len(plan), folder))
        tally = execute(plan, store, load=load, batch=options.batch, progress=watcher.settled)
        rows, judged, unread = scoring(plan.record, plan.questions, store)
    return Result(rows, folder, tally, judged, unread)


def _wanted(task: OpenTask, options: RunOptions, watcher: Watcher) -> Iterator[tuple[Shots, str]]:
    """Every number of shots with every ablation that has something to take away from them."""
    every = dict.fromkeys(task.shots(each) for each in options.shots)
    for shots, ablation in product(every, options.ablate):
        if changes_nothing(ablation, shots.count, shots.text_only):
            watcher.note(
                f"{task.name}, {shots} shots: --ablate {ablation} has nothing to take away"
            )
        else:
            yield shots, ablation


def _tell_of_more(plan: Plan, folder: Path, watcher: Watcher) -> None:
    """Says that the folder holds answers which were not asked for now. They stay, and are not scored."""
    if not is_run(folder):
        return
    known = known_record(folder)
    if known is None:
        watcher.note(f"{folder}/run.json was damaged and is written anew")
    elif not known.extent.within(plan.extent):
        watcher.note(
            f"{folder.name} holds answers beyond this limit or these trials; they are kept, "
            "and the table shows what was asked for now"
        )


def _several(given: Any) -> list[Any]:
    return list(given) if isinstance(given, (list, tuple)) else [given]


def _once(given: Sequence[Any]) -> list[Any]:
    found: list[Any] = []
    for each in given:
        if not any(each is known or (isinstance(each, str) and each == known) for known in found):
            found.append(each)
    return found


def _name(given: Any) -> Any:
    return str(given) if isinstance(given, Path) else given
