"""The whole way: task names and model names in, rows of a table out. What the command line calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from emu2eval import registry
from emu2eval.adapters.base import Absent, Adapter
from emu2eval.data.load import load_split, takes_shots
from emu2eval.data.samples import Samples
from emu2eval.data.sources import choose, require
from emu2eval.engine import judges
from emu2eval.engine.cost import costs
from emu2eval.engine.plan import Imported, Plan, Shots, build_chooser, folder_name
from emu2eval.engine.plan import slots as slots
from emu2eval.engine.record import read_record, record_of, recorded_task
from emu2eval.engine.runner import Once, Tally, execute
from emu2eval.engine.scoring import build_cleaner, build_scorer
from emu2eval.errors import ConfigError, StoreError, UnknownName, together
from emu2eval.fewshot.ablate import ABLATIONS, changes_nothing
from emu2eval.fewshot.choosers import Chooser
from emu2eval.fewshot.draw import permutation
from emu2eval.runs.store import RunStore
from emu2eval.spec import catalog
from emu2eval.spec.config import ModelSpec, Task, load_model, load_task, parse_settings
from emu2eval.types import Row
from emu2eval.watch import RunEnd, RunStart, Watcher


@dataclass(frozen=True)
class Result:
    """One finished run: its rows (the whole first, then sub-scores), its folder, what was done.

    judged: what was done by the judge, where there is one.
    """

    rows: list[Row]
    folder: Path
    tally: Tally
    judged: Tally = field(default_factory=Tally)

    @property
    def failed(self) -> int:
        """Requests that failed, of the model or of the judge."""
        return self.tally.failed + self.judged.failed

    @property
    def end(self) -> RunEnd:
        done, judged = self.tally, self.judged
        return RunEnd(self.folder, done.asked, done.kept, done.copied, self.failed, judged.asked)


@dataclass(frozen=True)
class Settings:
    """What applies to every run of one evaluation.

    ablate: what is taken away from demonstrations, each as runs of their own; "none" = nothing.
    source: where samples come from; None = see `choose`.
    """

    shots: Sequence[str | int] = ("0",)
    ablate: Sequence[str] = ("none",)
    seed: int = 0
    limit: int | None = None
    trials: int = 1
    split: str | None = None
    protocol: str | None = None
    source: str | None = None
    changes: Sequence[str] = ()
    out: Path | None = None
    batch: int | None = None
    judge: str | None = None

    def __post_init__(self) -> None:
        for name, least in (("limit", 1), ("trials", 1), ("batch", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"--{name} takes a number of at least {least}, not {value}")
        for name in self.ablate:
            if name not in ABLATIONS:
                raise UnknownName("ablation", name, ABLATIONS, where="--ablate")

    @property
    def folder(self) -> Path:
        return self.out or catalog.results_root()


@dataclass
class SplitCache:
    """Splits and choosers, each made once, so that several shots and models share them."""

    watcher: Watcher
    read: dict[tuple[str, str, int | None, int, int], Samples] = field(default_factory=dict)
    choosers: dict[tuple[Any, ...], Chooser] = field(default_factory=dict)

    def chooser(self, task: Task, seed: int) -> tuple[Samples, Chooser]:
        """The pool of the task's demonstrations, and who chooses from it."""
        spec = task.spec.demonstrations
        name = spec.split or task.split
        pool = self.split(task, name, spec.pool, seed)
        key = (self._key(task, name, spec.pool, seed), seed, spec.model_dump_json())
        found = self.choosers.get(key)
        if found is None or found.looks_through_model:
            found = self.choosers[key] = build_chooser(task, pool, seed)
        return pool, found

    def _key(
        self, task: Task, name: str, pool: int | None, seed: int, shots: int = 0
    ) -> tuple[str, str, int | None, int, int]:
        place = f"{task.root}|{task.sources.get(name)}"
        source = f"{task.document.path}|{place}|{task.spec.data.model_dump_json()}"
        return source, name, pool, seed if pool else 0, shots if takes_shots(task, name) else 0

    def split(
        self, task: Task, name: str, pool: int | None = None, seed: int = 0, shots: int = 0
    ) -> Samples:
        """shots: how many demonstrations its samples are shown, as queries; few readers ask for it."""
        key = self._key(task, name, pool, seed, shots)
        if key not in self.read:
            if pool is not None:
                whole = self.split(task, name)
                drawn = permutation(len(whole), seed, "pool")
                chosen = [index for index, _ in zip(drawn, range(pool), strict=False)]
                self.read[key] = whole.subset(chosen)
            else:
                self.watcher.reading(f"{task.name}, split {name}")
                self.read[key] = load_split(task, name, shots)
        return self.read[key]


def build_adapter(model: ModelSpec) -> Adapter:
    """The model's adapter, not yet loaded. Raises ConfigError, ModelError or MissingExtra."""
    adapter: Adapter = registry.build("adapter", model.adapter, model.settings, where=model.name)
    return adapter


def make_plan(
    task: Task,
    model: ModelSpec,
    adapter: Adapter,
    shots: str,
    settings: Settings,
    data: SplitCache,
    ablation: str = "none",
) -> Plan:
    """The plan of one run; reads the splits it needs."""
    parsed = Shots.parse(shots, task)
    samples = data.split(task, task.split, shots=parsed.count)
    pool, chooser = data.chooser(task, settings.seed) if parsed.count else (None, None)
    return Plan(
        task=task,
        model=model,
        adapter=adapter,
        shots=parsed,
        samples=samples,
        pool=pool,
        chooser=chooser,
        seed=settings.seed,
        limit=settings.limit,
        trials=settings.trials,
        ablation=ablation,
    )


def _wanted(task: Task, settings: Settings, watcher: Watcher) -> Iterator[tuple[str, str]]:
    """Every number of shots with every ablation that has something to take away from them."""
    for shots, ablation in product(_once(settings.shots), _once(settings.ablate)):
        parsed = Shots.parse(shots, task)
        if changes_nothing(ablation, parsed.count, parsed.text_only):
            watcher.note(
                f"{task.name}, {shots} shots: --ablate {ablation} has nothing to take away"
            )
        else:
            yield shots, ablation


def plans(
    tasks: Sequence[str], models: Sequence[str], settings: Settings, watcher: Watcher | None = None
) -> Iterator[list[Plan]]:
    """For each model, the plans of all its runs, not yet checked against its limits."""
    told = watcher or Watcher()
    changes = parse_settings(settings.changes)
    # Whatever is wrong in a file, or is not there, is found before the first model is built.
    loaded = [open_task(name, settings, _once(settings.shots), told) for name in _once(tasks)]
    for task in loaded:
        build_scorer(task)
        build_cleaner(task)
    judges.choose(loaded, settings.judge, changes["judge"])
    specs = [load_model(name, overrides=changes["model"]) for name in _once(models)]
    data = SplitCache(told)
    for spec in specs:
        adapter = build_adapter(spec)
        group = [
            make_plan(task, spec, adapter, shots, settings, data, ablation)
            for task in loaded
            for shots, ablation in _wanted(task, settings, told)
        ]
        if group:
            yield group


def open_task(name: str, settings: Settings, shots: Sequence[str], watcher: Watcher) -> Task:
    """The task as the settings ask for it, with the sources of the splits it needs at these shots.

    Raises MissingData with all that must be fetched, ConfigError or UnknownName.
    """
    task = load_task(
        name,
        protocol=settings.protocol,
        split=settings.split,
        overrides=parse_settings(settings.changes)["task"],
    )
    shown = any(Shots.parse(each, task).count for each in shots)
    splits = [task.split, (task.spec.demonstrations.split or task.split) if shown else task.split]
    task, notes = choose(task, splits, settings.source)
    require(task, splits)
    for note in notes:
        watcher.note(note)
    return task


def evaluate(
    task: str | Sequence[str],
    model: str | Sequence[str],
    *,
    settings: Settings | None = None,
    watcher: Watcher | None = None,
    **options: Any,
) -> list[Result]:
    """Runs every task with every model at every number of shots, or continues where a run stopped.

    task, model: names or paths of YAML files; options: the fields of `Settings`. Everything is
    planned and checked before the first model is loaded. Each answer is stored as it is given;
    running it again asks only what is missing. Raises UserError.
    """
    told = watcher or Watcher()
    chosen = settings or Settings(**options)
    tasks = [task] if isinstance(task, str) else list(task)
    models = [model] if isinstance(model, str) else list(model)
    results = []
    groups = list(plans(tasks, models, chosen, told))
    every = [plan for group in groups for plan in group]
    together(build_scorer(task).require for task in {id(p.task): p.task for p in every}.values())
    overrides = parse_settings(chosen.changes)["judge"]
    judge = judges.choose([plan.task for plan in every], chosen.judge, overrides)
    loaders = [Once(g[0].adapter, partial(told.loading, g[0].model.name)) for g in groups]
    for group, loader in zip(groups, loaders, strict=True):
        for plan in group:
            plan.prepare(loader, told.working)
            plan.check_all()
        if len(groups) > 1 and loader.loaded:
            # Two models may not fit. What was seen through this one is remembered.
            loader.close()
    for line in costs(groups, judge, chosen.folder):
        told.note(line)
    with ExitStack() as opened:
        hear = judges.hearer(judge, told, opened)
        for group, loader in zip(groups, loaders, strict=True):
            with closing(loader):
                for plan in group:
                    result = run_plan(plan, chosen, told, loader, hear)
                    results.append(result)
                    told.finished(result.end)
    return results


def run_plan(
    plan: Plan, settings: Settings, watcher: Watcher, load: Callable[[], None], hear: judges.Hear
) -> Result:
    """Asks, stores, judges and scores one run."""
    folder = settings.folder / folder_name(plan)
    with RunStore(folder).open_for_writing() as store:
        plan = _grown(plan, store, watcher)
        plan.prepare(load, watcher.working)
        store.write_json("run.json", record_of(plan, settings.changes))
        store.index(slots(plan), len(plan.samples) * plan.draws)
        if store.damaged:
            watcher.note(
                f"{store.damaged} damaged lines in {folder}/responses.jsonl are asked again"
            )
        watcher.starting(RunStart(plan.task.name, plan.model.name, plan.label, len(plan), folder))
        tally = execute(plan, store, load=load, batch=settings.batch, progress=watcher.settled)
        rows, judged = hear(plan, store)
    return Result(rows, folder, tally, judged)


def reopen(
    folder: Path, changes: Sequence[str] = (), *, demonstrations: bool = False
) -> tuple[Plan, RunStore]:
    """The plan of a stored run, from its record alone, without the model.

    changes: `task.score…=value` assignments. demonstrations: read their split too, so that prompts can be
    made again. Raises StoreError where the folder is no run, or its data is not what it was.
    """
    store, record = RunStore(folder), read_record(folder)
    task = recorded_task(record, changes)
    model = ModelSpec.model_validate(record["model"])
    shots = Shots.parse(record["shots"], task)
    data = SplitCache(Watcher())
    samples = data.split(task, task.split, shots=shots.count)
    imported = record.get("imported")
    shown = demonstrations and shots.count and imported is None
    pool, chooser = data.chooser(task, record["seed"]) if shown else (None, None)
    for part, known in (("queries", samples), ("demonstrations", pool)):
        if known is not None and known.digest != record["identity"]["data"][part]:
            raise StoreError(
                f"the data of {task.name} is not what it was when this run was made",
                where=task.root,
                hint="bring the old data back, or run the evaluation again on the new one",
            )
    # One that looks through the model cannot be asked without it.
    chosen_by = chooser.identity() if chooser and not chooser.looks_through_model else None
    if chosen_by is not None and chosen_by != record["identity"]["data"].get("chooser", {}):
        raise StoreError(
            f"what the demonstrations of {task.name} were chosen by is not what it was when this run was "
            "made, so others would be shown",
            where=folder,
            hint="bring the old images and encoder back, or run the evaluation again",
        )
    plan = Plan(
        task=task,
        model=model,
        adapter=Absent(),
        shots=shots,
        samples=samples,
        pool=pool,
        chooser=chooser,
        seed=record["seed"],
        limit=record["extent"]["limit"],
        trials=record["extent"]["trials"],
        ablation=record.get("ablation", "none"),
        imported=Imported(store.ids(), imported["note"]) if imported is not None else None,
    )
    return plan, store


def score_again(
    folder: Path,
    changes: Sequence[str] = (),
    *,
    judge: str | None = None,
    watcher: Watcher | None = None,
) -> Result:
    """Scores a stored run anew, without its model.

    judge: who judges it, where that is wanted; by default the one whose replies are stored, who is asked
    nothing more.
    """
    plan, store = reopen(folder, changes)
    build_scorer(plan.task).require()
    kept = Tally(kept=len(plan))
    with ExitStack() as opened:
        opened.enter_context(store.open_for_writing())
        store.index(slots(plan), len(plan.samples) * plan.draws)
        chosen = None
        if judge is not None:
            chosen = judges.choose([plan.task], judge, parse_settings(changes)["judge"])
        hear = judges.hearer(chosen, watcher or Watcher(), opened)
        rows, judged = hear(plan, store)
        if changes:
            # What is compared or shown later is what was scored last.
            record = read_record(folder)
            kept_changes = {c.partition("=")[0]: c for c in [*record["changes"], *changes]}
            task = plan.task.spec.model_dump(mode="json")
            record |= {"task": task, "changes": sorted(kept_changes.values())}
            store.write_json("run.json", record)
        return Result(rows, folder, kept, judged)


def _grown(plan: Plan, store: RunStore, watcher: Watcher) -> Plan:
    """The plan, made as large as the stored run already is: a run only ever grows."""
    record = store.read_json("run.json")
    if record is None:
        return plan
    extent = record["extent"]
    limit, trials = plan.limit, max(plan.trials, extent["trials"])
    if limit is not None and (extent["limit"] is None or extent["limit"] > limit):
        limit = extent["limit"]
    if (limit, trials) != (plan.limit, plan.trials):
        shown = "every query" if limit is None else f"{limit:,} queries"
        watcher.note(f"{store.folder.name} holds more already; the table shows {shown}")
    return replace(plan, limit=limit, trials=trials)


def _once(names: Sequence[Any]) -> list[str]:
    return list(dict.fromkeys(str(name) for name in names))
