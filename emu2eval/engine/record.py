"""run.json: what a run's record holds, written and read."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from emu2eval.engine.plan import Plan
from emu2eval.errors import ConfigError, StoreError
from emu2eval.runs.store import RunStore
from emu2eval.spec import catalog
from emu2eval.spec.config import ModelSpec, Task, TaskSpec, override, parse_settings
from emu2eval.spec.yamlfile import Document, validate

FORMAT = 1
"""The version of the layout of a run's folder."""


def read_record(folder: Path) -> dict[str, Any]:
    """The run.json of a folder. Raises StoreError where the folder is no run."""
    record = RunStore(folder).read_json("run.json")
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise StoreError(
            "this is not the folder of a run", where=folder, hint="emu2eval ls runs lists them"
        )
    return record


def recorded_task(record: Mapping[str, Any], changes: Sequence[str] = ()) -> Task:
    """The task that a run's record holds; its data is not read. changes: as for `reopen`."""
    overrides = parse_settings(changes)["task"]
    for key in overrides:
        if not key.startswith("score."):
            raise ConfigError(
                f"--set task.{key} would change what was asked; only task.score.… can change here"
            )
    document = Document(catalog.located("task", record["task_file"]), record["task"])
    spec = validate(TaskSpec, override(record["task"], overrides, "task"), document)
    root = document.path.parent / spec.data.root if spec.data.root is not None else None
    return Task(
        spec,
        record["protocol"],
        record["split"],
        root or catalog.data_root(),
        document,
        record.get("sources", {}),
    )


def record_of(plan: Plan, changes: Sequence[str]) -> dict[str, Any]:
    """run.json: enough to score again, to repeat, to compare, and to know what a number stands for."""
    return {
        "format": FORMAT,
        "task": plan.task.spec.model_dump(mode="json"),
        "task_file": catalog.portable("task", plan.task.document.path),
        "changes": sorted(changes),
        "protocol": plan.task.protocol_name,
        "split": plan.task.split,
        "sources": dict(plan.task.sources),
        "model": _portable(plan.model).model_dump(mode="json"),
        "shots": plan.shots.label,
        "ablation": plan.ablation,
        "seed": plan.seed,
        "extent": {"limit": plan.limit, "trials": plan.trials},
        "identity": plan.identity,
        "fingerprint": plan.fingerprint,
        "versions": _versions(),
    }


def _portable(model: ModelSpec) -> ModelSpec:
    """The model without the place of a checkpoint that comes with the package."""
    checkpoint = model.settings.get("checkpoint")
    if not isinstance(checkpoint, str) or not Path(checkpoint).exists():
        return model
    place = catalog.portable("model", Path(checkpoint))
    return model.model_copy(update={"settings": {**model.settings, "checkpoint": place}})


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("emu2eval", "torch", "transformers", "diffusers", "pillow"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
