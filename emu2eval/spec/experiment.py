"""Experiments: a YAML file of models, tasks and settings, every one with every other."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from emu2eval.errors import ConfigError, UserError, raise_together
from emu2eval.spec import catalog, suites
from emu2eval.spec.data import Options
from emu2eval.spec.settings import Count, Keys, Limit
from emu2eval.spec.yamlfile import Document, Spec, read_yaml, validate
from emu2eval.trust import trusted

ShotCount = Annotated[int, Meta(ge=0, le=99_999)] | Literal["0*"]
Seed = Annotated[int, Meta(ge=0, le=2**53)]
Batch = Count | Literal["auto"]


class AskedSpec(Spec):
    """What applies to all runs, or to those of one task; a task's own values take precedence.

    Each of the plural ones, and `ablate`, is one value or a list, and all combinations are run.
    shots: numbers of demonstrations, or "0*"; seeds: of all draws; protocols: how tasks are prompted;
    ablate: what is removed from demonstrations: labels, images, order, blank, or none. split: of the
    queries;
    source: official or hub. limit: number of queries, or a fraction if below 1; trials: draws of
    demonstrations, each a pass over the queries. fit: use fewer demonstrations in prompts that are too
    long; skip_missing: leave out samples whose image is missing. judge: a model, by name or path;
    batch: requests at a time, or auto. set: as --set takes it, such as {task.output.beams: 3}, nested or
    with dots.
    """

    shots: ShotCount | Annotated[tuple[ShotCount, ...], Meta(min_length=1)] | None = None
    seeds: Seed | Annotated[tuple[Seed, ...], Meta(min_length=1)] | None = None
    protocols: str | Annotated[tuple[str, ...], Meta(min_length=1)] | None = None
    ablate: str | Annotated[tuple[str, ...], Meta(min_length=1)] | None = None
    split: str | None = None
    source: str | None = None
    limit: Limit | None = None
    trials: Annotated[int, Meta(ge=1, le=10_000)] | None = None
    fit: bool | None = None
    skip_missing: bool | None = None
    judge: str | None = None
    batch: Batch | None = None
    set: Options = msgspec.field(default_factory=dict)


class TaskEntry(AskedSpec):
    """A task with its own values. task: by name or path, or a suite or a pattern of names."""

    task: str


class ModelEntry(Spec):
    """A model with its own values. model: by name, path or the hub's org/name; or the keys of a model
    file.

    tasks: the tasks to run it on, if not those of the file. device: such as cuda:1. engine: a serving
    engine that runs it, such as vllm. batch: requests at a time, or auto. set: as --set takes it, such as
    {model.settings.dtype: float32}.
    """

    model: str | dict[str, Any]
    tasks: tuple[str | TaskEntry, ...] | None = None
    batch: Batch | None = None
    device: str | None = None
    engine: str | None = None
    set: Options = msgspec.field(default_factory=dict)


class ExperimentSpec(AskedSpec):
    """models: names, paths or entries; tasks: likewise, for every model that names none.
    settings: sets of changes, each of which makes separate runs. out: the folder for runs; report: the
    page written at the end."""

    name: str = ""
    about: str = ""
    models: Annotated[tuple[str | ModelEntry, ...], Meta(min_length=1)]
    tasks: tuple[str | TaskEntry, ...] = ()
    settings: tuple[Options, ...] = ()
    out: str | None = None
    report: str | None = None


@dataclass(frozen=True)
class Experiment:
    """A file as it was read. Paths in it are relative to it."""

    spec: ExperimentSpec
    document: Document

    @property
    def name(self) -> str:
        return self.spec.name or self.document.path.stem

    @property
    def folder(self) -> Path:
        return self.document.path.parent

    def beside(self, path: str) -> Path:
        """A path of the file, such as that of its report."""
        return _joined(self.folder, Path(path).expanduser())

    def named(self, name: str) -> str:
        """A name in the file as the command line would have it: what is there beside the file is meant."""
        return as_named(self.folder, name)


def read_experiment(path: Path) -> Experiment:
    """Raises ConfigError or UnknownName with file and line, Several where there is more than one fault.

    Names of tasks and models are looked up as well where the file has other faults, so that all are told.
    """
    document = read_yaml(path)
    faults: list[UserError] = []
    try:
        spec = validate(ExperimentSpec, document.data, document)
    except UserError as error:
        faults += [error, *_unknown(document)]
        raise_together(faults)
        raise
    for number, model in enumerate(spec.models):
        own = model.tasks if isinstance(model, ModelEntry) else None
        if not (spec.tasks if own is None else own):
            where = document.where(("models", number) if spec.tasks or own is not None else ())
            faults.append(
                ConfigError("no tasks given", where=where, hint="tasks: [easy-vqa, ./my_task.yaml]")
            )
    if spec.report is not None and not spec.report.endswith((".html", ".htm")):
        faults.append(
            ConfigError("a report must be an .html file", where=document.where(("report",)))
        )
    for key, given in (("out", spec.out), ("report", spec.report)):
        if given is not None and not trusted() and not _near(document.path.parent, given):
            faults.append(
                ConfigError(
                    f"{key}: {given} is outside both this file's folder and the current folder",
                    where=document.where((key,)),
                    hint="--out on the command line may be any folder; --trust accepts the file's value",
                )
            )
    raise_together(faults)
    return Experiment(spec, document)


def as_named(folder: Path, name: str) -> str:
    """
    >>> as_named(Path("there"), "easy-vqa")
    'easy-vqa'
    """
    path = Path(name).expanduser()
    if path.is_absolute():
        return str(path)
    relative = name.startswith(("./", "../")) or name.endswith((".yaml", ".yml"))
    found = _joined(folder, path)
    if relative or ("/" in name and found.exists()):
        return str(found)
    return name


def _near(folder: Path, given: str) -> bool:
    """A file that somebody else wrote writes nothing elsewhere."""
    whole = _joined(folder, Path(given).expanduser()).resolve()
    return any(whole.is_relative_to(root.resolve()) for root in (folder, Path.cwd()))


def _joined(folder: Path, path: Path) -> Path:
    """Without the `there/..` that nobody wants to read."""
    return Path(os.path.normpath(folder / path))


def _unknown(document: Document) -> list[UserError]:
    """Names of tasks that there are none of, in a file that has other faults."""
    faults: list[UserError] = []
    for kind in ("task", "model"):
        listed = document.data.get(f"{kind}s")
        for number, entry in enumerate(listed if isinstance(listed, list) else ()):
            named = entry.get(kind) if isinstance(entry, Mapping) else entry
            at: Keys = (f"{kind}s", number)
            if not isinstance(named, str) or (kind == "model" and "/" in named):
                continue
            try:
                name = as_named(document.path.parent, named)
                found = suites.entries([name]) if kind == "task" else suites.listed("model", name)
                for each in found:
                    catalog.find_file(kind, each if isinstance(each, str) else each.task)
            except UserError as error:
                error.where = document.where(at)
                faults.append(error)
    return faults
