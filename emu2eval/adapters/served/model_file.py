"""A model file for this process as one for a serving engine: what has a counterpart there, what has none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from emu2eval.adapters.served.checkpoint import is_gguf
from emu2eval.adapters.served.engines import ENGINES
from emu2eval.errors import ConfigError, UnknownName
from emu2eval.spec.model import model_document
from emu2eval.spec.yamlfile import Document

_AS_IT_IS = frozenset(
    "checkpoint revision image_options temperature top_p seed max_new_tokens thinking".split()
)
_NOT_NEEDED = frozenset(
    "layout max_positions batch device_map memory reuse threads workers keep_images image_backend "
    "attention".split()
)
"""How and where a model runs here, and what the engine knows by itself: template, context length."""


def file_for(given: str, engine: str) -> Document:
    """The model file of `given`, or what stands for it where it is GGUF, which only an engine reads.

    Raises UnknownName for a name or an engine that there is none of, or ConfigError.
    """
    if engine not in ENGINES:
        raise UnknownName("engine", engine, ENGINES, where="--engine")
    path = Path(given).expanduser()
    if ENGINES[engine].gguf and not (path / "model.yaml").is_file() and is_gguf(path):
        name = path.stem if path.suffix == ".gguf" else path.resolve().name
        settings = {"checkpoint": str(path), "engine": engine}
        return Document(path, {"name": name, "adapter": "served", "settings": settings})
    return model_document(given)


def served(document: Document, engine: str) -> Document:
    """A model file with its model behind an engine; of another engine, behind this one.

    Raises ConfigError for a model that no engine serves, or a setting that has no counterpart.
    """
    adapter, own = document.data.get("adapter"), document.data.get("settings") or {}
    name = document.data.get("name", document.path.stem)
    if adapter == "served":
        settings = {**own, "engine": engine}
    elif adapter == "huggingface":
        settings = {**_converted(own, document, engine), "engine": engine}
        name = f"{name}-{engine}"
    else:
        says = "is a server already" if adapter == "openai" else "runs in this process only"
        raise ConfigError(
            f"--engine {engine} does not apply to {name}, which {says}",
            where=document.where(("adapter",)),
            hint="remove --engine for this model",
        )
    data = {**document.data, "name": name, "adapter": "served", "settings": settings}
    return replace(document, data=data)


def _converted(own: Mapping[str, Any], document: Document, engine: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in own.items():
        if key in _AS_IT_IS:
            found[key] = value
        elif key == "images":
            found["max_images"] = value
        elif key == "dtype" and engine != "llama.cpp":
            found["options"] = {"dtype": value}
        elif key == "template_options":
            found["extra"] = {"chat_template_kwargs": value}
        elif key == "layout" and value == "plain":
            raise ConfigError(
                f"{engine} shows prompts in a chat template, and this is a base model (`layout: plain`)",
                where=document.where(("settings", key)),
                hint="run it without --engine",
            )
        elif key not in _NOT_NEEDED:
            raise ConfigError(
                f"the setting {key} has no counterpart with --engine {engine}",
                where=document.where(("settings", key)),
                hint="run it without --engine, or remove the setting from a copy of the file",
            )
    return found
