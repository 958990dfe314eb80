"""Stored runs -> the experiment's file that repeats them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml

from emu2eval.engine.judges import HOSTED
from emu2eval.engine.judging import stored_judges
from emu2eval.engine.plan import portable_settings
from emu2eval.engine.tasks import unknown_prompts
from emu2eval.errors import StoreError, UserError
from emu2eval.identity import value_key
from emu2eval.runs.record import ModelRecord, Record, read_record
from emu2eval.spec import catalog
from emu2eval.spec.changes import Changes
from emu2eval.spec.experiment import AskedSpec
from emu2eval.spec.model import load_model
from emu2eval.spec.task import load_task
from emu2eval.types import Shots

Keyed = dict[str, Any]


def written(folders: Sequence[Path]) -> str:
    """The file, as text. Raises StoreError for a run that no file could repeat, such as an imported one."""
    models: dict[str, Keyed] = {}
    tasks: dict[str, list[Keyed]] = {}
    for folder in folders:
        record = read_record(folder)
        model = _model(record, folder)
        key = value_key(model)
        models.setdefault(key, model)
        tasks.setdefault(key, []).append(_task(record, folder))
    for axis, order in _AXES.items():
        tasks = {key: _together(listed, axis, order) for key, listed in tasks.items()}
    top = _lifted([task for listed in tasks.values() for task in listed])
    listed = list(tasks.values())
    shared = all(each == listed[0] for each in listed)
    content: Keyed = {
        "models": [
            _short(model if shared else {**model, "tasks": list(map(_short, tasks[key]))}, "model")
            for key, model in models.items()
        ]
    }
    if shared:
        content["tasks"] = list(map(_short, listed[0]))
    return _text({**content, **top}, len(folders))


def _model(record: Record, folder: Path) -> Keyed:
    """What names the model: its file or checkpoint, else all that its file would say."""
    model, changes = record.model, record.changes.model
    own: Keyed = {"set": _dotted(Changes(model=changes))} if changes else {}
    settings = model.settings
    if model.in_memory or "process" in settings:
        raise StoreError(
            "the model of this run was a Python object, which a file cannot refer to",
            where=folder,
            hint="save it as a checkpoint, register its class as an entry point, or write a model file "
            "with `adapter: module:attr`",
        )
    for name in (model.name, settings.get("checkpoint")):
        if isinstance(name, str) and _is(name, changes, model):
            return {"model": name, **own}
    checkpoint = settings.get("checkpoint")
    if isinstance(checkpoint, str) and catalog.located("model", checkpoint).exists():
        settings = {**settings, "checkpoint": str(catalog.located("model", checkpoint))}
    return {"model": {"name": model.name, "adapter": model.adapter, "settings": settings}, **own}


def _is(name: str, changes: Keyed, model: ModelRecord) -> bool:
    """The name stands for this model, with these changes."""
    if name not in catalog.names("model") and not Path(name).exists():
        return False
    try:
        known = load_model(name, overrides=changes)
    except UserError:
        return False
    same = (known.name, known.adapter) == (model.name, model.adapter)
    return same and portable_settings(known) == model.settings


def _task(record: Record, folder: Path) -> Keyed:
    if record.imported is not None:
        raise unknown_prompts(record.imported.origin, folder)
    known = record.task
    path = catalog.located("task", known.file)
    shipped = {file.resolve(): name for name, file in catalog.names("task").items()}
    name = shipped.get(path.resolve(), str(path))
    changes = record.changes
    task = load_task(name, protocol=known.protocol, split=known.split, overrides=changes.task)
    if value_key(task.asked()) != value_key(_asked(record)):
        raise StoreError(
            f"the file of {known.name} has changed since this run",
            where=folder,
            hint=f"restore the old file: {path}",
        )
    own = {
        "task": name,
        "protocols": known.protocol if known.protocol != task.spec.protocol else None,
        "split": known.split if known.split != task.spec.split else None,
        "source": next(iter(known.sources.values()), None),
        "shots": "0*" if record.shots.text_only else record.shots.count,
        "seeds": record.seed or None,
        "ablate": record.ablation if record.ablation != "none" else None,
        "limit": record.extent.limit,
        "trials": record.extent.trials if record.extent.trials > 1 else None,
        "fit": record.fit or None,
        "skip_missing": bool(record.left_out.queries or record.left_out.demonstrations) or None,
        "judge": _judge(folder, changes),
        "set": _dotted(Changes(task=changes.task, judge=changes.judge)) or None,
    }
    return {key: value for key, value in own.items() if value is not None}


def _asked(record: Record) -> Keyed:
    identity = record.identity.task
    return {name: getattr(identity, name) for name in identity.__struct_fields__}


def _judge(folder: Path, changes: Changes) -> str | None:
    """The judge's name, where its replies are there: of a model file, or the one that its server has.

    Raises StoreError for one that was a file of somebody's own: where that is, is not stored.
    """
    judges = stored_judges(folder)
    if not judges:
        return None
    model = judges[-1].model
    if _is(model.name, changes.judge, model):
        return model.name
    served = model.settings.get("model")
    if isinstance(served, str) and _is(HOSTED, {"settings.model": served, **changes.judge}, model):
        return served
    raise StoreError(
        f"the judge of this run, {model.name}, came from a file that the run does not record",
        where=folder,
        hint="write the file for the other runs, and add `judge: PATH` by hand",
    )


def _dotted(changes: Changes) -> Keyed:
    return {
        f"{part}.{key}": value
        for part in changes.__struct_fields__
        for key, value in getattr(changes, part).items()
    }


# -- fewer words --------------------------------------------------------------------------------------


def _shots(value: Any) -> Any:
    return Shots(0, text_only=True).rank if value == "0*" else Shots(value).rank


_AXES: dict[str, Callable[[Any], Any]] = {
    "shots": _shots,
    "seeds": lambda seed: seed,
    "ablate": str,
}
"""What one entry of a task can hold several of; and their order."""

_DEFAULT = {"seeds": 0, "ablate": "none"}


def _together(tasks: Iterable[Keyed], axis: str, order: Callable[[Any], Any]) -> list[Keyed]:
    """Entries that differ in one axis alone, as one."""
    found: dict[str, tuple[Keyed, list[Any]]] = {}
    for task in tasks:
        rest = {key: value for key, value in task.items() if key != axis}
        values = found.setdefault(value_key(rest), (rest, []))[1]
        value = task.get(axis, _DEFAULT.get(axis))
        values += [
            each for each in (value if isinstance(value, list) else [value]) if each not in values
        ]
    made = []
    for rest, values in found.values():
        values = [value for value, _ in groupby(sorted(values, key=order))]
        plain = values == [_DEFAULT.get(axis)]
        own = {} if plain else {axis: values if len(values) > 1 else values[0]}
        made.append({**rest, **own})
    return made


def _lifted(tasks: Sequence[Keyed]) -> Keyed:
    """What every entry says alike, taken out of them."""
    common = {
        key: value
        for key, value in tasks[0].items()
        if key != "task" and all(task.get(key) == value for task in tasks)
    }
    for task in tasks:
        for key in common:
            del task[key]
    return common


def _short(entry: Keyed, kind: str = "task") -> Any:
    """A name alone where nothing else is said; else the keys in their usual order."""
    if list(entry) == [kind] and isinstance(entry[kind], str):
        return entry[kind]
    order = (kind, *AskedSpec.__struct_fields__, "tasks")
    return {key: entry[key] for key in order if key in entry}


class _Dumper(yaml.SafeDumper):
    """Short lists on one line."""


def _list(dumper: _Dumper, values: list[Any]) -> yaml.Node:
    flat = all(not isinstance(value, dict | list) for value in values)
    numbers = flat and not all(isinstance(value, str) and value != "0*" for value in values)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=numbers)


_Dumper.add_representer(list, _list)


def _text(content: Keyed, runs: int) -> str:
    head = f"# Repeats {runs:,} stored run{'' if runs == 1 else 's'}: emu2eval run THIS_FILE\n"
    body = yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return head + body
