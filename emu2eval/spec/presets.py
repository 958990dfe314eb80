"""Presets: what a task's file need not say. `preset: NAME` begins with tasks/presets/NAME.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from emu2eval.errors import ConfigError, UnknownName
from emu2eval.spec import catalog
from emu2eval.spec.outputs import merged_output
from emu2eval.spec.yamlfile import Document, read_yaml

KEY = "preset"


def presets() -> dict[str, Path]:
    """Every preset by name, with its file."""
    folder = catalog.shipped("task") / "presets"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def with_preset(document: Document) -> Document:
    """The task's file on top of the preset that it names, if it names one. Raises UnknownName or ConfigError.

    Keys inside `data`, `data.options`, `demonstrations`, `score`, `output` and `protocols` are added to those
    of the preset; every other key takes the place of the preset's.
    """
    if KEY not in document.data:
        return document
    name, known = document.data[KEY], presets()
    where = document.where((KEY,))
    if not isinstance(name, str):
        raise ConfigError("preset: must be a name", where=where)
    if name not in known:
        raise UnknownName("preset", name, known, where=where)
    own = {key: value for key, value in document.data.items() if key != KEY}
    return replace(document, data=_merged(read_yaml(known[name]).data, own))


def _merged(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    found = {**base, **own}
    for key in ("data", "demonstrations", "score", "protocols", "output"):
        below, above = base.get(key), own.get(key)
        if isinstance(below, Mapping) and isinstance(above, Mapping):
            found[key] = {**below, **above}
    below, above = (_options(each) for each in (base, own))
    if below and above:
        found["data"]["options"] = {**below, **above}
    if isinstance(own.get("output"), Mapping) and isinstance(base.get("output"), Mapping):
        found["output"] = merged_output(base["output"], own["output"])
    score = own.get("score")
    if isinstance(score, Mapping) and "scorer" in score:
        found["score"] = dict(score)  # the options of one scorer mean nothing to another
    return found


def _options(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Those of the reader, where there are any."""
    inner = data.get("data")
    options = inner.get("options") if isinstance(inner, Mapping) else None
    return options if isinstance(options, Mapping) else {}
