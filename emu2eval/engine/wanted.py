"""What an evaluation asks: each task with the options that hold for it, each model once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from emu2eval.engine.options import RunOptions
from emu2eval.errors import ConfigError
from emu2eval.spec import suites
from emu2eval.spec.changes import Changes
from emu2eval.spec.suites import SuiteEntry
from emu2eval.spec.task import Task

AnyTask = str | Path | Task
"""A task by name, by the path of its YAML file, or as `load_task` gives it; a suite by name or path."""


@dataclass(frozen=True)
class WantedTask:
    """A task and the options for it: what the call says, else what its suite does."""

    task: str | Task
    options: RunOptions


def wanted(tasks: Iterable[AnyTask], options: RunOptions) -> list[WantedTask]:
    """Every task once, in the order of their names; lists, patterns and suites are written out.

    Raises UnknownName or ConfigError, also where nothing is asked for.
    """
    found: list[WantedTask] = []
    for task in tasks:
        if isinstance(task, (str, Path)):
            own = [WantedTask(e.task, _merged(e, options)) for e in suites.entries([str(task)])]
        else:
            own = [WantedTask(task, _merged(None, options))]
        found += [each for each in own if each not in found]
    if not found:
        raise ConfigError("no tasks given", hint="for a list: emu2eval ls tasks")
    return found


def wanted_models(models: Sequence[Any]) -> list[Any]:
    """Every model once: names, also in lists and patterns, specs, adapters and their classes."""
    found: list[Any] = []
    for model in models:
        named = isinstance(model, (str, Path))
        for each in suites.listed("model", str(model)) if named else [model]:
            if not any(each is known or (named and each == known) for known in found):
                found.append(each)
    return found


def _merged(entry: SuiteEntry | None, options: RunOptions) -> RunOptions:
    said = entry or SuiteEntry(task="")
    return msgspec.structs.replace(
        options,
        shots=options.shots or said.shots or (),
        split=options.split or said.split,
        protocol=options.protocol or said.protocol,
        changes=Changes.of(list(said.set)).merged(options.changes),
    )
