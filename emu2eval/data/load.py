"""The samples of a task's split: finds the reader, checks its options, reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from emu2eval import registry
from emu2eval.data.samples import Samples
from emu2eval.data.sources import require
from emu2eval.errors import DataError, MissingData, of_part
from emu2eval.spec.settings import Keys
from emu2eval.spec.task import Task
from emu2eval.types import Sample

Reader = Callable[..., Iterable[Sample]]
"""Called with the folder of the data and the options of the split, by name or as one Settings."""


def load_split(task: Task, split: str, shots: int = 0) -> Samples:
    """Every sample of the split, sorted by id. Raises MissingData with what to fetch, or DataError.

    shots: told to a reader with a parameter of this name, where a benchmark's queries depend on it.
    """
    require(task, [split])
    reader, root, options, at = _reading(task, split)
    where = task.document.where((*at, "splits", split))
    if takes_shots(task, split):
        options = {"shots": shots, **options}
    named = task.document.where((*at, "reader"))
    with of_part("reader", reader):
        try:
            samples = registry.build(
                "reader", reader, options, given=(root,), where=named, at=where
            )
            return Samples(samples, where=f"{task.name}, split {split}")
        except FileNotFoundError as error:
            raise MissingData(
                f"the data of {task.name} (split {split}) is not there: {error.filename} does not exist",
                where=where,
                hint="check the paths in the task's YAML file",
            ) from None
        except UnicodeDecodeError as error:
            raise DataError(
                f"a file of {task.name} (split {split}) is not in the encoding that its reader expects: "
                f"{error}",
                where=root,
                hint="save the data's text files as UTF-8",
            ) from None
        except OSError as error:
            name = error.filename or root
            raise DataError(f"the data cannot be read: {error}", where=str(name)) from None


def ids_in_order(task: Task, split: str, shots: int = 0) -> list[str]:
    """The ids of a split, which `load_split` could read, in the order of its files."""
    reader, root, options, _ = _reading(task, split)
    if takes_shots(task, split):
        options = {"shots": shots, **options}
    with of_part("reader", reader):
        samples = registry.build("reader", reader, options, given=(root,))
        return [sample.id for sample in samples]


def takes_shots(task: Task, split: str) -> bool:
    """Whether the split's reader wants to know how many demonstrations its samples will be shown."""
    reader, *_, at = _reading(task, split)
    read = registry.find("reader", reader, where=task.document.where((*at, "reader")))
    return any(option.name == "shots" for option in registry.declared(read, given=1))


def _reading(task: Task, split: str) -> tuple[str, Path, dict[str, Any], Keys]:
    """(reader, its folder, its options, where in the YAML file they stand) for the split's source."""
    data, name = task.spec.data, task.sources.get(split)
    if name is None:
        return data.reader, task.root, {**data.options, **data.splits[split]}, ("data",)
    source = data.sources[name]
    options = {**source.options, **source.splits[split]}
    return source.reader, task.root / source.folder, options, ("data", "sources", name)
