"""Models that are objects in this process: loaded weights, functions, adapters."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from emu2eval import registry
from emu2eval.adapters.base import Adapter
from emu2eval.adapters.function import FunctionAdapter, token_of
from emu2eval.errors import ConfigError
from emu2eval.spec.changes import Changes, override
from emu2eval.spec.checkpoints import family_document
from emu2eval.spec.model import ModelSpec, TrainingStep

_HERE = "in memory"
"""In the place of a checkpoint's folder."""


@dataclass(frozen=True, eq=False)
class InMemory:
    """An object to evaluate as a model, with the information needed about it.

    model: a transformers model or an Emu2, which may be wrapped by DDP, PEFT or torch.compile; a
    function from a `Prompt` to a text; an adapter. processor: of transformers; for Emu2 its tokenizer.model.
    painter: of an Emu2 that draws. name: as tables show it. version: together with the name, identifies
    a function's or adapter's behaviour, so that later processes can reuse its answers; weights are
    identified by their digest.
    settings: as of a model file, such as {"layout": "plain", "batch": 16}. step: of training; tables then
    show the model as `NAME-step-STEP`, and comparisons follow the steps of one name.
    """

    model: Any
    processor: Any = None
    name: str | None = None
    version: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    painter: Any = None
    step: int | None = None


class ObjectSpec(ModelSpec):
    """Of a model that no file could bring back."""


@dataclass(frozen=True)
class OpenObject:
    """unstated: nothing says what decides its answers, so that another process cannot reuse them."""

    spec: ModelSpec
    adapter: Adapter
    unstated: bool = False


def open_object(given: InMemory, changes: Changes) -> OpenObject:
    """A new adapter for the object as it is now. Raises ConfigError or ModelError."""
    found = _opened(given, changes)
    if given.step is None:
        return found
    training = TrainingStep(found.spec.name, given.step)
    spec = msgspec.structs.replace(found.spec, name=training.name, training=training)
    return replace(found, spec=spec)


def _opened(given: InMemory, changes: Changes) -> OpenObject:
    model = given.model
    settings = override({"settings": dict(given.settings)}, changes.model, "model")["settings"]
    if isinstance(model, Adapter):
        return _adapter(given, model)
    if _is_module(model):
        return _emu2(given, settings) if _is_emu2(model) else _transformers(given, settings)
    inner = getattr(model, "model", None)
    if _is_module(inner) and hasattr(model, "processor"):  # a pipeline of transformers
        own = given.processor or model.processor
        return _opened(replace(given, model=inner, processor=own), changes)
    if callable(model) and not isinstance(model, type):
        return _function(given)
    raise not_a_model(model)


def not_a_model(given: object) -> ConfigError:
    return ConfigError(
        f"a model must be a name, path, adapter, loaded model or function, not {type(given).__name__}",
        hint="for the names: emu2eval ls models; for your own model, pass a subclass of emu2eval.Adapter, a "
        "transformers model with its processor, or a function from a prompt to a text",
    )


def _adapter(given: InMemory, adapter: Adapter) -> OpenObject:
    kind = type(adapter)
    unstated = kind.identity is Adapter.identity and given.version is None
    settings = token_of(adapter) if unstated else _version(given)
    name = given.name or str(getattr(adapter, "name", None) or kind.__name__)
    spec = ObjectSpec(name=name, adapter=_path(kind), settings=settings)
    return OpenObject(spec, adapter, unstated)


def _function(given: InMemory) -> OpenObject:
    function = given.model
    own = getattr(function, "__name__", None) or type(function).__name__
    name = given.name or ("function" if own == "<lambda>" else str(own))
    adapter = FunctionAdapter(function, given.version)
    spec = ObjectSpec(name=name, adapter=_path(FunctionAdapter), settings={"name": name})
    return OpenObject(spec, adapter, given.version is None)


def _transformers(given: InMemory, settings: Mapping[str, Any]) -> OpenObject:
    from emu2eval.adapters.huggingface.live import LiveTransformers
    from emu2eval.adapters.local.lent import unwrapped

    inner = unwrapped(given.model)
    family = getattr(getattr(inner, "config", None), "model_type", None)
    if not family:
        raise ConfigError(
            f"a {type(inner).__name__} is not a transformers model",
            where="model",
            hint="for any other model, pass a subclass of emu2eval.Adapter or a function from a "
            "prompt to a text",
        )
    name = given.name or Path(getattr(inner, "name_or_path", "")).name or type(inner).__name__
    own = _settings(str(family), settings)
    build = registry.bound("adapter", _path(LiveTransformers), LiveTransformers, own, given=2)
    adapter = build(given.model, given.processor)
    spec = ObjectSpec(
        name=name, adapter=_path(LiveTransformers), settings={**own, **_version(given)}
    )
    return OpenObject(spec, adapter)


def _emu2(given: InMemory, settings: Mapping[str, Any]) -> OpenObject:
    from emu2eval.adapters.emu2.live import LiveEmu2

    own = _settings("emu2", settings)
    build = registry.bound("adapter", _path(LiveEmu2), LiveEmu2, own, given=3)
    adapter = build(given.model, given.processor, given.painter)
    spec = ObjectSpec(
        name=given.name or "Emu2", adapter=_path(LiveEmu2), settings={**own, **_version(given)}
    )
    return OpenObject(spec, adapter)


def _settings(family: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the family's model file, under the object's own."""
    document = family_document(family)
    known = {} if document is None else document.data.get("settings") or {}
    return {**known, **settings, "checkpoint": _HERE}


def _version(given: InMemory) -> dict[str, Any]:
    return {} if given.version is None else {"version": given.version}


def _path(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def _is_module(given: object) -> bool:
    torch = sys.modules.get("torch")  # without it there are no modules
    return torch is not None and isinstance(given, torch.nn.Module)


def _is_emu2(model: Any) -> bool:
    known = sys.modules.get("emu2eval.adapters.emu2.model")
    inner = getattr(model, "module", model)
    return known is not None and isinstance(inner, known.Emu2)
