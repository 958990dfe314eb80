"""Every fault of a task's or a model's file at once: its keys, and the options of the parts that it names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from emu2eval import registry
from emu2eval.data.load import check_options
from emu2eval.engine.tasks import opened
from emu2eval.errors import MissingExtra, UserError, together
from emu2eval.prompts import PromptBuilder
from emu2eval.spec.changes import read_file
from emu2eval.spec.model import ModelSpec, model_document
from emu2eval.spec.presets import with_preset
from emu2eval.spec.settings import Keys
from emu2eval.spec.task import TaskSpec, load_task
from emu2eval.spec.yamlfile import Document, validate


def task_faults(name: str) -> list[UserError]:
    """What is wrong in a task's file, whatever else is wrong in it; an extra that is missing is no fault."""
    document = with_preset(read_file("task", name))
    faults = _raised(lambda: validate(TaskSpec, document.data, document))
    sound = not faults
    for check in _parts(document):
        faults += _raised(check)
    if sound:
        for check in _whole(name):
            faults += _raised(check)
    return _once(faults)


def model_faults(name: str) -> list[UserError]:
    """The same of a model's file."""
    document = model_document(name)
    faults = _raised(lambda: validate(ModelSpec, document.data, document))
    adapter, settings = document.data.get("adapter"), document.data.get("settings", {})
    if isinstance(adapter, str) and isinstance(settings, Mapping):
        places: tuple[Keys, Keys] = (("adapter",), ("settings",))
        faults += _raised(partial(_prepared, document, "adapter", adapter, settings, places, 0))
    return _once(faults)


def _raised(check: Callable[[], object]) -> list[UserError]:
    try:
        check()
    except UserError as error:
        return [part for part in error.parts if not isinstance(part, MissingExtra)]
    return []


def _once(faults: list[UserError]) -> list[UserError]:
    """Each once, however many protocols share it: one that is told with its line comes before one without."""
    found: dict[str, UserError] = {}
    for fault in faults:
        known = found.get(fault.what)
        if known is None or (known.where or "").rpartition(":")[2].isdigit() is False:
            found[fault.what] = fault
    return list(found.values())


def _parts(document: Document) -> Iterator[Callable[[], object]]:
    """The parts that the file and its protocols name, looked at as the file has them."""
    data = document.data
    yield from _scoring(document, data.get("score"), data.get("score"), ("score",))
    yield from _choosing(
        document, data.get("demonstrations"), data.get("demonstrations"), ("demonstrations",)
    )
    protocols = data.get("protocols")
    for name, own in protocols.items() if isinstance(protocols, Mapping) else ():
        if not isinstance(own, Mapping):
            continue
        at = ("protocols", name)
        for key, looked in (("score", _scoring), ("demonstrations", _choosing)):
            if isinstance(own.get(key), Mapping) and isinstance(data.get(key, {}), Mapping):
                merged = {**data.get(key, {}), **own[key]}
                yield from looked(document, merged, own[key], (*at, key))


def _scoring(document: Document, given: Any, own: Any, at: Keys) -> Iterator[Callable[[], object]]:
    """given: with what the task says; own: what stands at these keys."""
    if not isinstance(given, Mapping):
        return
    scorer, options, clean = given.get("scorer"), given.get("options", {}), own.get("clean", ())
    if isinstance(scorer, str) and isinstance(options, Mapping):
        places = _places(own, at, "scorer", ("score",))
        yield partial(_prepared, document, "scorer", scorer, options, places, 0)
    for number, step in enumerate(clean if isinstance(clean, list) else ()):
        if isinstance(step, str):
            yield partial(_found, document, "cleaner", step, (*at, "clean", number))


def _choosing(document: Document, given: Any, own: Any, at: Keys) -> Iterator[Callable[[], object]]:
    if not isinstance(given, Mapping):
        return
    chooser, options = given.get("chooser", "random"), given.get("options", {})
    if isinstance(chooser, str) and isinstance(options, Mapping):
        places = _places(own, at, "chooser", ("demonstrations",))
        yield partial(_prepared, document, "chooser", chooser, options, places, 2)


def _places(own: Mapping[str, Any], at: Keys, name: str, outer: Keys) -> tuple[Keys, Keys]:
    """Where the name of a part stands and where its options do: here, or what the task says for all."""
    return (
        (*(at if name in own else outer), name),
        (*(at if "options" in own else outer), "options"),
    )


def _prepared(
    document: Document,
    kind: str,
    name: str,
    options: Mapping[str, Any],
    places: tuple[Keys, Keys],
    given: int,
) -> None:
    named, at = places
    with document.naming(named):
        registry.prepared(
            kind,
            name,
            options,
            given=given,
            where=document.where(named),
            at=document.below(at),
        )


def _found(document: Document, kind: str, name: str, at: Keys) -> None:
    with document.naming(at):
        registry.find(kind, name, where=document.where(at))


def _whole(name: str) -> Iterator[Callable[[], object]]:
    """What only a file with sound keys can be asked for: its templates, its splits, how parts fit."""
    task = load_task(name)

    def protocol(chosen: str) -> None:
        own = task if chosen == task.protocol_name else load_task(name, protocol=chosen)
        builder = partial(PromptBuilder, own.protocol, own.document.where(("protocols", chosen)))
        together([builder, partial(opened, own)])

    yield from (partial(protocol, each) for each in task.spec.protocols)
    yield from (partial(check_options, task, split) for split in task.spec.data.splits)
