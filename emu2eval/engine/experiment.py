"""An experiment's file -> the jobs of an evaluation, every fault of it told before the first one starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from emu2eval.engine.evaluation import AnyModel, Job
from emu2eval.engine.judges import choose_judge
from emu2eval.engine.models import open_model
from emu2eval.engine.options import RunOptions
from emu2eval.engine.tasks import described, open_task, opened
from emu2eval.errors import ConfigError, UnknownName, UserError, raise_together, together
from emu2eval.fewshot.ablate import ABLATIONS
from emu2eval.spec import suites
from emu2eval.spec.changes import Changes, override
from emu2eval.spec.experiment import Experiment, ModelEntry, TaskEntry
from emu2eval.spec.model import ModelSpec
from emu2eval.spec.settings import Keys
from emu2eval.spec.suites import SuiteEntry
from emu2eval.spec.task import load_task
from emu2eval.spec.yamlfile import set_at, validate
from emu2eval.trust import check_no_code

MOST = 10_000
"""Jobs of an experiment: a few lines of a file stand for billions."""


@dataclass(frozen=True)
class _Entry:
    """A model and a task of the file, and the keys at which they stand. suite: the task by its own name,
    with what its suite says of it, where the file names a suite."""

    model_at: Keys
    model: ModelEntry
    task_at: Keys
    task: TaskEntry
    suite: SuiteEntry


@dataclass(frozen=True)
class _Set:
    """Changes, and where in the file each of them stands, by its dotted name."""

    changes: Changes = field(default_factory=Changes)
    at: Mapping[str, Keys] = field(default_factory=dict)

    def merged(self, later: _Set) -> _Set:
        return _Set(self.changes.merged(later.changes), {**self.at, **later.at})


def jobs(experiment: Experiment, given: Mapping[str, Any] | None = None) -> list[Job]:
    """Every job of an experiment, model by model, once the whole file is checked.

    given: options of the command line, by their names there. They hold for every run, in place of what the
    file says of them; `task` and `model` pick some of the file's, and `set` is set last. Raises UserError
    with all faults, each with its line.
    """
    return _Reading(experiment, given or {}).jobs()


class _Reading:
    """One walk over a file that is well-formed; collects what else is wrong."""

    def __init__(self, experiment: Experiment, given: Mapping[str, Any]):
        self.experiment = experiment
        self.spec = experiment.spec
        self.given = given
        self.faults: list[UserError] = []
        self.models: dict[str, AnyModel | None] = {}
        self.checked: set[str] = set()

    def jobs(self) -> list[Job]:
        given = _Set(Changes.of(self.given.get("set") or ()))
        with self._placed(()):
            self._check_names()
        found: list[Job] = []
        count = 0
        for entry in self._entries():
            before = len(self.faults)
            shared = (
                _Set(Changes.of(list(entry.suite.set))),
                self._set(self.spec.set, ("set",)),
                self._set(entry.model.set, (*entry.model_at, "set")),
                self._set(entry.task.set, (*entry.task_at, "set")),
            )
            sets = [
                self._set(each, ("settings", number))
                for number, each in enumerate(self.spec.settings)
            ]
            if len(self.faults) > before:
                continue
            protocols = self._listed(entry, "protocols", (None,), "protocol")
            seeds = self._listed(entry, "seeds", (0,), "seed")
            count += len(protocols) * len(seeds) * len(sets or [None])
            if count > MOST:
                raise ConfigError(
                    f"more than {MOST:,} combinations of tasks, models, seeds, protocols and settings",
                    where=self.experiment.document.path,
                    hint="split it into several files",
                )
            for protocol, seed, own in product(protocols, seeds, sets or [_Set()]):
                merged = _Set()
                for each in (*shared, own, given):
                    merged = merged.merged(each)
                job = self._job(entry, protocol, seed, merged)
                if job is not None:
                    found.append(job)
        raise_together(self.faults)
        return found

    def _entries(self) -> Iterator[_Entry]:
        for number, each in enumerate(self.spec.models):
            model = each if isinstance(each, ModelEntry) else ModelEntry(model=each)
            if self.given.get("model") and _name(model) not in self.given["model"]:
                continue
            at: Keys = ("models", number)
            own = model.tasks is not None
            for place, task in enumerate(self.spec.tasks if model.tasks is None else model.tasks):
                entry = task if isinstance(task, TaskEntry) else TaskEntry(task=task)
                for one in self._suite(entry.task):
                    picked = self.given.get("task")
                    if not picked or entry.task in picked or one.task in picked:
                        task_at = (*(at if own else ()), "tasks", place)
                        yield _Entry(at, model, task_at, entry, one)

    def _suite(self, name: str) -> list[SuiteEntry]:
        """The tasks that a name, a pattern or a suite stands for; what there is none of is told later."""
        named = self.experiment.named(name)
        try:
            return list(suites.entries([named]))
        except UserError:
            return [SuiteEntry(task=named)]

    def _check_names(self) -> None:
        """Raises UnknownName for what the command line picks that the file does not have."""
        whole = _Reading(self.experiment, {})
        entries = list(whole._entries())
        for kind, known in (
            ("model", [_name(each.model) for each in entries]),
            ("task", [name for each in entries for name in (each.task.task, each.suite.task)]),
        ):
            for name in self.given.get(kind) or ():
                if name not in known:
                    raise UnknownName(kind, name, set(known), of="this experiment")

    # -- one job -----------------------------------------------------------------------------------

    def _job(self, entry: _Entry, protocol: str | None, seed: int, given: _Set) -> Job | None:
        """None where it has a fault."""
        task = entry.suite.task
        split = self._value(entry, "split")
        with self._placed(entry.task_at):
            self._check_ablations(entry)
        ablate = [name for name in self._listed(entry, "ablate", ("none",)) if name in ABLATIONS]
        before = len(self.faults)
        with self._placed(entry.task_at):
            if self._first("name", (task, protocol, split)):
                load_task(task, protocol=protocol, split=split)
        judge = self._value(entry, "judge")
        out = self.given.get("out")
        if out is None and self.spec.out is not None:
            out = self.experiment.beside(self.spec.out)
        options = None
        if len(self.faults) == before:
            with self._placed(entry.task_at, given):
                options = RunOptions.of(
                    shots=self._listed(entry, "shots", (0,)),
                    ablate=ablate,
                    seed=seed,
                    limit=self._value(entry, "limit"),
                    trials=self._value(entry, "trials") or 1,
                    split=split,
                    protocol=protocol,
                    source=self._value(entry, "source"),
                    changes=given.changes,
                    scorer=self.given.get("scorer"),
                    fit=bool(self._value(entry, "fit")),
                    skip_missing=bool(self._value(entry, "skip_missing")),
                    out=out,
                    batch=self._batch(entry),
                    device=self._of_model(entry, "device"),
                    engine=self._of_model(entry, "engine"),
                    replicas=self.given.get("replicas"),
                    cluster=self.given.get("cluster"),
                    part=self.given.get("part"),
                    judge=self.experiment.named(judge) if judge else None,
                )
                self._try_task(task, options)
        model = None
        with self._placed(entry.model_at, given):
            model = self._model(entry, given.changes)
        return Job(task, model, options) if options is not None and model is not None else None

    def _try_task(self, name: str, options: RunOptions) -> None:
        """Opens the task once as it is set, and its judge. Raises UserError."""
        asked = (name, options.changes.task, options.protocol, options.split, options.source)
        judged = (options.judge, options.changes.judge, options.shots)
        if not self._first("task", (asked, judged)):
            return
        task = opened(
            described(name, options.changes, protocol=options.protocol, split=options.split)
        )

        def data() -> None:
            open_task(
                name,
                options.changes,
                shots=options.shots,
                protocol=options.protocol,
                split=options.split,
                source=options.source,
            )

        def judge() -> None:
            # One that this task does not need may be for another.
            if task.judged is not None:
                choose_judge([task], options.judge, options.changes.judge)

        together([data, judge])

    def _model(self, entry: _Entry, changes: Changes) -> AnyModel | None:
        """What the entry names, opened once as it is set; None where that failed before. Raises UserError."""
        named = entry.model.model
        device, engine = self._of_model(entry, "device"), self._of_model(entry, "engine")
        key = repr((named, changes.model, device, engine))
        if key not in self.models:
            self.models[key] = None
            model: str | ModelSpec
            if isinstance(named, str):
                model = self.experiment.named(named)
            else:
                at = (*entry.model_at, "model")
                check_no_code(named, self.experiment.folder, self._where(at))
                data = override(self._beside(named), changes.model, "model")
                model = validate(ModelSpec, data, self.experiment.document, at)
            open_model(model, changes, device, engine=engine)
            self.models[key] = model
        return self.models[key]

    def _check_ablations(self, entry: _Entry) -> None:
        for name in self._listed(entry, "ablate", ()):
            if name not in ABLATIONS:
                raise UnknownName("ablation", name, ABLATIONS)

    # -- values --------------------------------------------------------------------------------------

    def _value(self, entry: _Entry, key: str, option: str | None = None) -> Any:
        """The command line's, else the task's own, else the file's, else its suite's; None: nobody says."""
        if (option or key) in self.given:
            return self.given[option or key]
        for said in (entry.task, self.spec):
            if (value := getattr(said, key)) is not None:
                return value
        return getattr(entry.suite, option or key, None)

    def _listed(
        self, entry: _Entry, key: str, default: tuple[Any, ...], option: str | None = None
    ) -> tuple[Any, ...]:
        value = self._value(entry, key, option)
        if value is None:
            return default
        return tuple(value) if isinstance(value, list | tuple) else (value,)

    def _of_model(self, entry: _Entry, key: str) -> str | None:
        """The command line's, else the model's own."""
        value: str | None = self.given.get(key, getattr(entry.model, key))
        return value

    def _batch(self, entry: _Entry) -> Any:
        own = None if "batch" in self.given else entry.model.batch
        return self._value(entry, "batch") if own is None else own

    def _set(self, values: Mapping[str, Any], at: Keys) -> _Set:
        """What is set at some keys of the file."""
        with self._placed(at):
            check_no_code(values, self.experiment.folder, self._where(at))
            return _Set(Changes.of(self._beside(values)), dict(_dotted(values, at)))
        return _Set()

    def _beside(self, value: Any) -> Any:
        """The value, with texts that begin with ./ or ../ as paths beside the file."""
        if isinstance(value, Mapping):
            return {key: self._beside(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self._beside(each) for each in value]
        if isinstance(value, str) and value.startswith(("./", "../")):
            return str(self.experiment.beside(value))
        return value

    # -- faults --------------------------------------------------------------------------------------

    def _where(self, at: Keys) -> str:
        return self.experiment.document.where(at)

    def _first(self, kind: str, key: object) -> bool:
        known = repr((kind, key))
        new = known not in self.checked
        self.checked.add(known)
        return new

    @contextmanager
    def _placed(self, at: Keys, given: _Set | None = None) -> Iterator[None]:
        """What is raised inside is kept as a fault of the file at these keys."""
        placed = given.at if given is not None else {}

        def where(dotted: str) -> str | None:
            below = [key for key in placed if f"{key}.".startswith(f"{dotted}.")]
            above = [key for key in placed if dotted.startswith(f"{key}.")]
            found = min(below, key=len, default=None) or max(above, key=len, default=None)
            return self._where(placed[found]) if found is not None else None

        try:
            with set_at(where):
                yield
        except UserError as error:
            place, path = self._where(at), f"{self.experiment.document.path}:"
            for part in error.parts:
                if part.where is None:
                    part.where = place
                elif not part.where.startswith(path):
                    part.where = f"{part.where} (referenced at {place})"
                self.faults.append(part)


def _name(entry: ModelEntry) -> str:
    return entry.model if isinstance(entry.model, str) else str(entry.model.get("name", ""))


def _dotted(values: Mapping[str, Any], at: Keys, before: str = "") -> Iterator[tuple[str, Keys]]:
    for key, value in values.items():
        name = f"{before}{key}"
        yield name, (*at, key)
        if isinstance(value, Mapping):
            yield from _dotted(value, (*at, key), f"{name}.")
