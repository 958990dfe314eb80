"""Models: their YAML files as specs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from emu2eval.spec.changes import override, read_file, with_changes
from emu2eval.spec.checkpoints import checkpoint_document
from emu2eval.spec.data import Options
from emu2eval.spec.secrets import refuse
from emu2eval.spec.yamlfile import Document, Spec, validate


class TrainingStep(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which step of which training a model is. series: what all steps of it are called; step: counted from
    0."""

    series: Annotated[str, Meta(min_length=1, max_length=900)]
    step: Annotated[int, Meta(ge=0, le=10**12)]

    @property
    def name(self) -> str:
        """Of the model at that step, so that names sort by it."""
        return f"{self.series}-step-{self.step:06d}"


class ModelSpec(Spec):
    """adapter: a built-in one, an entry point or `module:attr`; settings: its options. family:
    transformers' model_type, or "emu2", whose checkpoints use these settings if they are given without a
    file.
    training: for a checkpoint of a training run, its series and step; comparisons follow them."""

    name: str
    title: str = ""
    about: str = ""
    source: str = ""
    licence: str = ""
    family: str = ""
    adapter: str
    settings: Options = msgspec.field(default_factory=dict)
    training: TrainingStep | None = None

    def __post_init__(self) -> None:
        refuse(self.settings, "settings")


@dataclass(frozen=True)
class ModelFile:
    """A model as its file and the changes describe it, and where each of its settings stands."""

    spec: ModelSpec
    document: Document


def model_document(name: str) -> Document:
    """The file of a model, or what stands for the file of a checkpoint. Raises UnknownName or ConfigError."""
    return checkpoint_document(name) or read_file("model", name)


def load_model(name: str, *, overrides: Mapping[str, Any] | None = None) -> ModelSpec:
    """The spec of `read_model`."""
    return read_model(name, overrides=overrides).spec


def read_model(name: str, *, overrides: Mapping[str, Any] | None = None) -> ModelFile:
    """A model by name, by the path of its YAML file or of a folder that holds one, or a checkpoint by its
    folder or its name on the hub.

    A relative `settings.checkpoint` or `.adapter` that exists beside the YAML file is taken from there.
    {model} in the name stands for the last part of `settings.model`, so that tables tell a server's models
    apart. Raises UnknownName or ConfigError.
    """
    return open_document(model_document(name), overrides)


def open_document(document: Document, overrides: Mapping[str, Any] | None = None) -> ModelFile:
    """`read_model` of a file that is read already."""
    changes = overrides or {}
    document = with_changes(document, changes, "model")
    spec = validate(ModelSpec, override(document.data, changes, "model"), document)
    last = str(spec.settings.get("model") or document.path.stem).rpartition("/")[2]
    settings = dict(spec.settings)
    for key in ("checkpoint", "adapter"):
        given = settings.get(key)
        beside = document.path.parent / given if isinstance(given, str) else None
        if beside is not None and beside.exists():
            settings[key] = os.fspath(beside)
    name = spec.name.replace("{model}", last)
    return ModelFile(msgspec.structs.replace(spec, name=name, settings=settings), document)
