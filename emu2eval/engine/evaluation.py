"""The whole way: tasks and models in, rows of a table out. What the command line calls."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from emu2eval.adapters.base import Adapter
from emu2eval.engine.carrying import carry_out
from emu2eval.engine.judges import choose_judge
from emu2eval.engine.models import OpenModel, open_model
from emu2eval.engine.objects import InMemory
from emu2eval.engine.options import AnyScorer, RunOptions
from emu2eval.engine.plan import Plan
from emu2eval.engine.planned import PlannedRun, each_once
from emu2eval.engine.prompting import Prompts
from emu2eval.engine.questions import questions_of
from emu2eval.engine.results import Result
from emu2eval.engine.splits import Splits
from emu2eval.engine.supplies import bring
from emu2eval.engine.tasks import OpenTask, open_task
from emu2eval.engine.wanted import AnyTask, wanted, wanted_models
from emu2eval.errors import ConfigError
from emu2eval.fewshot.ablate import changes_nothing
from emu2eval.runs.record import LeftOut
from emu2eval.spec.changes import Changes
from emu2eval.spec.model import ModelSpec
from emu2eval.types import Shots, TextOutput
from emu2eval.watch import Watcher

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


UNSTATED = (
    "the answers of {name} cannot be reused by another process, because nothing identifies the model; to "
    "reuse them, give it a version, and change that whenever the model changes: evaluate(…, "
    "name=…, version=…)"
)


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


def _settings(task: OpenTask, options: RunOptions, watcher: Watcher) -> Iterator[tuple[Shots, str]]:
    """Every number of shots with every ablation that has something to take away from them."""
    every = dict.fromkeys(task.shots(each) for each in options.shots or ("0",))
    for shots, ablation in product(every, options.ablate):
        if changes_nothing(ablation, shots.count, shots.text_only):
            watcher.note(f"{task.name}, {shots} shots: --ablate {ablation} has nothing to remove")
        else:
            yield shots, ablation


def _several(given: Any) -> list[Any]:
    return list(given) if isinstance(given, (list, tuple)) else [given]


def _name(given: Any) -> Any:
    return str(given) if isinstance(given, Path) else given
