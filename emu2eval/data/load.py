"""The samples of a task's split: finds the reader, checks its options, reads."""

from __future__ import annotations

from emu2eval import registry
from emu2eval.config import Task
from emu2eval.data.samples import Samples
from emu2eval.errors import MissingData, UserError


def load_split(task: Task, split: str) -> Samples:
    """Every sample of the split, sorted by id. Raises MissingData with what to fetch, or DataError."""
    data = task.spec.data
    where = task.document.where(("data", "splits", split))
    read = registry.find("reader", data.reader, where=task.document.where(("data", "reader")))
    options = {**data.options, **data.splits[split]}
    registry.check_options(f"reader {data.reader}", read, options, where=where, given=1)
    try:
        return Samples(read(task.root, **options), where=f"{task.name}, split {split}")
    except FileNotFoundError as error:
        raise _missing(task, split, str(error.filename)) from None
    except (OSError, UnicodeDecodeError) as error:
        if isinstance(error, UserError):
            raise
        name = getattr(error, "filename", None) or where
        raise MissingData(f"the data cannot be read: {error}", where=str(name)) from None


def _missing(task: Task, split: str, filename: str) -> MissingData:
    """One message with all that has to be fetched for a split, and where to put it."""
    wanted = [d for d in task.spec.data.downloads if not d.splits or split in d.splits]
    lines = [f"the data of {task.name} (split {split}) is not there: {filename} does not exist"]
    for download in wanted:
        note = f" ({download.note})" if download.note else ""
        lines.append(
            f"  - {download.what}, {download.size}\n"
            f"      from {download.source}{note}\n"
            f"      into {task.root / download.into}"
        )
    hint = "fetch and unpack the above"
    if task.spec.data.root is None:
        hint += "; EMU2EVAL_DATA=/path/to/data names another data root"
    if not wanted:
        hint = "check the paths in the task's YAML file"
    return MissingData("\n".join(lines), where=str(task.root.resolve()), hint=hint)
