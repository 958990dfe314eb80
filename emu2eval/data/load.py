"""The samples of a task's split: finds the reader, checks its options, reads."""

from __future__ import annotations

from collections.abc import Iterable

from emu2eval import registry
from emu2eval.config import Task
from emu2eval.data.samples import Samples
from emu2eval.errors import DataError, MissingData


def load_split(task: Task, split: str) -> Samples:
    """Every sample of the split, sorted by id. Raises MissingData with what to fetch, or DataError."""
    require(task, [split])
    data = task.spec.data
    where = task.document.where(("data", "splits", split))
    read = registry.find("reader", data.reader, where=task.document.where(("data", "reader")))
    options = {**data.options, **data.splits[split]}
    registry.check_options(f"reader {data.reader}", read, options, where=where, given=1)
    try:
        return Samples(read(task.root, **options), where=f"{task.name}, split {split}")
    except FileNotFoundError as error:
        raise MissingData(
            f"the data of {task.name} (split {split}) is not there: {error.filename} does not exist",
            where=where,
            hint="check the paths in the task's YAML file",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        name = getattr(error, "filename", None) or where
        raise DataError(f"the data cannot be read: {error}", where=str(name)) from None


def require(task: Task, splits: Iterable[str]) -> None:
    """Raises MissingData with everything that must still be fetched for these splits, at once."""
    wanted = set(splits)
    missing = [
        download
        for download in task.spec.data.downloads
        if (not download.splits or wanted.intersection(download.splits))
        and not all((task.root / path).exists() for path in download.gives)
    ]
    if not missing:
        return
    lines = [f"data of {task.name} (split {' and '.join(sorted(wanted))}) is missing:"]
    for download in missing:
        note = f"\n      {download.note}" if download.note else ""
        lines.append(
            f"  - {download.what}, {download.size}\n"
            f"      fetch  {download.source}\n"
            f"      unpack in {task.root / download.into}/ "
            f"to give {' and '.join(str(task.root / path) for path in download.gives)}{note}"
        )
    raise MissingData("\n".join(lines), where=f"data root {task.root.resolve()}", hint=_ROOT_HINT)


_ROOT_HINT = "if the data is elsewhere: export EMU2EVAL_DATA=/path/to/data"
