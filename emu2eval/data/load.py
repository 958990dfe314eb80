"""The samples of a task's split: finds the reader, checks its options, reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import ceil
from pathlib import Path
from typing import Any

from emu2eval import registry
from emu2eval.data.columns import RowOptions, options_of
from emu2eval.data.samples import Samples
from emu2eval.data.sources import require
from emu2eval.errors import DataError, MissingData, UserError, of_part
from emu2eval.spec.settings import Keys
from emu2eval.spec.task import Task
from emu2eval.types import Sample

TOLERATED = 0.1
"""The share of a split's samples that may be unreadable; one always may, if there are others."""

Reader = Callable[..., Iterable[Sample]]
"""Called with the folder of the data and the options of the split, by name or as one Settings."""


def load_split(task: Task, split: str, shots: int = 0) -> Samples:
    """Every sample of the split, sorted by id. Raises MissingData with what to fetch, or DataError.

    shots: told to a reader with a parameter of this name, where a benchmark's queries depend on it.
    """
    require(task, [split])
    reader, root, options, at = _reading(task, split)
    where = task.document.where((*at, "splits", split))
    options = _told(task, split, options, shots)
    named = task.document.where((*at, "reader"))
    with of_part("reader", reader), task.document.naming():
        try:
            samples = registry.build(
                "reader", reader, options, given=(root,), where=named, at=where
            )
            read = Samples(samples, where=f"{task.name}, split {split}")
        except UserError as error:
            error.where = error.where or where  # of an option that fits no row
            raise
        except FileNotFoundError as error:
            raise MissingData(
                f"data of {task.name} (split {split}) is missing: {error.filename} does not exist",
                where=where,
                hint="check the paths in the task's YAML file",
            ) from None
        except UnicodeDecodeError as error:
            raise DataError(
                f"a file of {task.name} (split {split}) does not have the encoding that its reader expects: "
                f"{error}",
                where=root,
                hint="save the data's text files as UTF-8",
            ) from None
        except OSError as error:
            name = error.filename or root
            raise DataError(f"the data cannot be read: {error}", where=str(name)) from None
    _check_whole(read)
    return read


def check_options(task: Task, split: str) -> None:
    """Raises ConfigError or UnknownName for options of a split that are not its reader's. Reads nothing."""
    reader, _, options, at = _reading(task, split)
    options = _told(task, split, options, 0)
    own = task.spec.data.splits.get(split, {})

    def place(keys: Keys) -> str:
        outer = ("splits", split) if keys and keys[0] in own else ("options",)
        return task.document.where((*at, *outer, *keys))

    named = task.document.where((*at, "reader"))
    with task.document.naming():
        registry.prepared("reader", reader, options, given=1, where=named, at=place)


def _check_whole(samples: Samples) -> None:
    """Raises DataError where so many samples cannot be asked that the file as a whole must be wrong."""
    lost = samples.unreadable
    if len(lost) > ceil(TOLERATED * len(samples)) or (lost and len(lost) == len(samples)):
        first = min(lost)
        raise DataError(
            f"{len(lost):,} of {len(samples):,} samples could not be read; the first is "
            f"{samples.ids[first]!r}: {lost[first]}",
            where=samples.where,
            hint="the file may be another version, another benchmark, or damaged; download it again",
        )


def ids_in_order(task: Task, split: str, shots: int = 0) -> list[str]:
    """The ids of a split, which `load_split` could read, in the order of its files."""
    reader, root, options, _ = _reading(task, split)
    options = _told(task, split, options, shots)
    with of_part("reader", reader), task.document.naming():
        samples = registry.build("reader", reader, options, given=(root,))
        return [sample.id for sample in samples]


def takes_shots(task: Task, split: str) -> bool:
    """Whether the split's reader wants to know how many demonstrations its samples will be shown."""
    read = _reader(task, split)
    return any(option.name == "shots" for option in registry.declared(read, given=1))


def _reader(task: Task, split: str) -> Any:
    reader, *_, at = _reading(task, split)
    with task.document.naming():
        return registry.find("reader", reader, where=task.document.where((*at, "reader")))


def _told(task: Task, split: str, options: dict[str, Any], shots: int) -> dict[str, Any]:
    """The options with what a reader may want to know: the number of shots, the name of the split."""
    if takes_shots(task, split):
        options = {"shots": shots, **options}
    own = registry.own_settings(_reader(task, split), given=1)
    if own is not None and issubclass(own, RowOptions):
        options = options_of(options, split)
    return options


def _reading(task: Task, split: str) -> tuple[str, Path, dict[str, Any], Keys]:
    """(reader, its folder, its options, where in the YAML file they stand) for the split's source."""
    data, name = task.spec.data, task.sources.get(split)
    if name is None:
        return data.reader, task.root, {**data.options, **data.splits[split]}, ("data",)
    source = data.sources[name]
    options = {**source.options, **source.splits[split]}
    return source.reader, task.root / source.folder, options, ("data", "sources", name)
