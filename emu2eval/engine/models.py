"""A model, opened once: its file and its adapter, not yet loaded."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from emu2eval import registry
from emu2eval.adapters.base import Adapter
from emu2eval.adapters.emu2.adapter import Emu2Adapter
from emu2eval.adapters.machine import Machine
from emu2eval.adapters.served.model_file import file_for, served
from emu2eval.engine.objects import InMemory, open_object
from emu2eval.engine.supplies import NamedPart
from emu2eval.errors import ConfigError, MissingExtra
from emu2eval.spec import catalog, suites
from emu2eval.spec.changes import Changes, override
from emu2eval.spec.model import ModelFile, ModelSpec, open_document, read_model
from emu2eval.spec.task import load_task
from emu2eval.spec.yamlfile import Document


@dataclass(frozen=True)
class OpenModel:
    """A model ready to be planned for. Its weights are read when something is asked.

    unstated: nothing says what decides its answers, so that another process cannot reuse them.
    """

    spec: ModelSpec
    adapter: Adapter
    unstated: bool = False

    @property
    def part(self) -> NamedPart:
        """Its adapter, by the name that its file gives it."""
        return NamedPart("adapter", self.spec.adapter, self.adapter)


BUNDLED = "emu2-nano"
"""The small model that comes with the package, and what is asked on the bundled tasks."""


def models_for(tasks: Sequence[str], given: Sequence[str] | None) -> Sequence[str]:
    """The models that were named; else the bundled one, where all tasks and their data are bundled, too.

    Raises ConfigError for other tasks: nobody wants to know how a toy does on them.
    """
    if given:
        return given
    known = catalog.names("task")
    opened = {each.task: load_task(each.task).spec.data for each in suites.entries(tasks)}
    others = [name for name, data in opened.items() if name not in known or data.downloads]
    if others:
        raise ConfigError(
            f"no model given for {', '.join(others)}",
            hint="--model ./my-checkpoint, --model ORG/NAME (on the hub), --model my_model.yaml, or a name "
            "from: emu2eval ls models",
        )
    for lack in MissingExtra.of(Emu2Adapter.packages, "emu2", why=f"the default model {BUNDLED}"):
        lack.hint = f"{lack.hint}; or a baseline without dependencies: --model most-common"
        raise lack
    return (BUNDLED,)


def open_model(
    given: Any,
    changes: Changes,
    device: str | None = None,
    machine: Machine | None = None,
    engine: str | None = None,
) -> OpenModel:
    """The model with its adapter; given: as `evaluate` takes it. device: on which it runs, whatever its file
    says; of the identity only as far as it decides a precision. machine: where that device is, if elsewhere.
    engine: a serving engine that runs it in place of this process; a baseline runs as it is.

    Raises ConfigError, ModelError, UnknownName or MissingExtra.
    """
    found = _opened(given, changes, device, engine)
    if machine is not None:
        found.adapter.machine = machine
    return found


def _opened(given: Any, changes: Changes, device: str | None, engine: str | None) -> OpenModel:
    if engine is not None:
        file = _behind(engine, given, changes)
        return OpenModel(file.spec, _build(file.spec, device, file.document))
    if inspect.isclass(given) and issubclass(given, Adapter):
        settings = override({}, changes.model, "model").get("settings", {})
        placed = _on_device(given.__name__, given, settings, device)
        adapter = registry.bound("adapter", given.__name__, given, placed)()
        found = open_object(InMemory(adapter), changes)
        known = found.spec
        spec = ModelSpec(
            name=known.name, adapter=known.adapter, settings={**known.settings, **settings}
        )
        return OpenModel(spec, adapter, found.unstated)
    if isinstance(given, str):
        file = read_model(given, overrides=changes.model)
        return OpenModel(file.spec, _build(file.spec, device, file.document))
    if isinstance(given, ModelSpec):
        return OpenModel(given, _build(given, device))
    found = open_object(given if isinstance(given, InMemory) else InMemory(given), changes)
    if device is not None:
        raise ConfigError(
            f"{found.spec.name} is already in memory, so --device cannot move it",
            hint="move the model to the device before passing it in",
        )
    return OpenModel(found.spec, found.adapter, found.unstated)


def _behind(engine: str, given: Any, changes: Changes) -> ModelFile:
    """The file of a model whose weights a serving engine reads."""
    if isinstance(given, ModelSpec):
        document, changes = Document(Path(given.name), msgspec.to_builtins(given)), Changes()
    elif isinstance(given, str):
        document = file_for(given, engine)
    else:
        raise ConfigError(
            f"--engine {engine} starts a server for a checkpoint, and this model is an object in memory",
            hint="give the checkpoint's folder or its name on the hub, or leave out the engine",
        )
    factory = registry.find("adapter", document.data["adapter"], where=document.where(("adapter",)))
    if getattr(factory, "load", None) is not Adapter.load:
        document = served(document, engine)
    return open_document(document, changes.model)


def _on_device(
    name: str, factory: Any, settings: Mapping[str, Any], device: str | None
) -> Mapping[str, Any]:
    """The settings with the device. Raises ConfigError for a model that runs elsewhere; one that loads
    nothing, such as a baseline, runs anywhere."""
    setting = getattr(factory, "device_setting", None)
    if device is None:
        return settings
    if setting is not None:
        return {**settings, setting: device}
    if getattr(factory, "load", None) is Adapter.load:
        return settings
    raise ConfigError(
        f"--device {device} does not apply to {name}, which has no such setting",
        hint="remove --device for this model",
    )


def _build(
    model: ModelSpec, device: str | None = None, document: Document | None = None
) -> Adapter:
    """The model's adapter, not yet loaded. document: where its settings stand."""
    where = model.name if document is None else document.where(("adapter",))
    at = None if document is None else document.below(("settings",))
    with nullcontext() if document is None else document.naming():
        factory = registry.find("adapter", model.adapter, where=where)
        settings = _on_device(model.name, factory, model.settings, device)
        adapter: Adapter = registry.bound(
            "adapter", model.adapter, factory, settings, where=where, at=at
        )()
    return adapter
