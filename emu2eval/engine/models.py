"""A model, opened once: its file and its adapter, not yet loaded."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from uuid import uuid4

from msgspec import structs

from emu2eval import registry
from emu2eval.adapters.base import Adapter
from emu2eval.adapters.emu2.adapter import Emu2Adapter
from emu2eval.engine.supplies import NamedPart
from emu2eval.errors import ConfigError, MissingExtra
from emu2eval.spec import catalog, suites
from emu2eval.spec.changes import Changes, override
from emu2eval.spec.model import ModelSpec, read_model
from emu2eval.spec.task import load_task
from emu2eval.spec.yamlfile import Document


@dataclass(frozen=True)
class OpenModel:
    """A model ready to be planned for. Its weights are read when something is asked."""

    spec: ModelSpec
    adapter: Adapter

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
            f"name the model that is to answer {', '.join(others)}",
            hint="--model ./my-checkpoint, --model org/name of the hub, --model my_model.yaml, or a name "
            "from: emu2eval ls models",
        )
    for lack in MissingExtra.of(Emu2Adapter.packages, "emu2", why=f"the default model {BUNDLED}"):
        lack.hint = f"{lack.hint}; or a baseline that needs nothing more: --model most-common"
        raise lack
    return (BUNDLED,)


def open_model(given: str | ModelSpec | Adapter | type[Adapter], changes: Changes) -> OpenModel:
    """The model with its adapter. Raises ConfigError, ModelError, UnknownName or MissingExtra."""
    if isinstance(given, Adapter):
        return OpenModel(_of_object(given), given)
    if inspect.isclass(given) and issubclass(given, Adapter):
        settings = override({}, changes.model, "model").get("settings", {})
        adapter = registry.bound("adapter", given.__name__, given, settings)()
        spec = _of_object(adapter)
        return OpenModel(structs.replace(spec, settings={**spec.settings, **settings}), adapter)
    if isinstance(given, str):
        file = read_model(given, overrides=changes.model)
        return OpenModel(file.spec, _build(file.spec, file.document))
    if not isinstance(given, ModelSpec):
        raise ConfigError(
            f"a model is a name, a path or an adapter, not {type(given).__name__}",
            hint="emu2eval ls models lists the names; your own is a subclass of emu2eval.Adapter",
        )
    return OpenModel(given, _build(given))


def _build(model: ModelSpec, document: Document | None = None) -> Adapter:
    """The model's adapter, not yet loaded. document: where its settings stand."""
    where = model.name if document is None else document.where(("adapter",))
    at = None if document is None else document.below(("settings",))
    with nullcontext() if document is None else document.naming():
        adapter: Adapter = registry.build(
            "adapter", model.adapter, model.settings, where=where, at=at
        )
    return adapter


def _of_object(adapter: Adapter) -> ModelSpec:
    """A spec for an adapter that exists only in this process.

    One that does not say what decides its answers is another model in every process, so that answers of
    other weights are never reused.
    """
    kind = type(adapter)
    settings = {}
    if kind.identity is Adapter.identity:
        token = adapter.__dict__.setdefault("_emu2eval_token", uuid4().hex)
        settings = {"process": token}
    name = str(getattr(adapter, "name", None) or kind.__name__)
    return ModelSpec(name=name, adapter=f"{kind.__module__}:{kind.__qualname__}", settings=settings)
