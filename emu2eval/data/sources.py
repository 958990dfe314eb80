"""Which source the splits of a task come from: the official files, or another place that has them."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from emu2eval.data.presence import OFFICIAL, Piece, pieces
from emu2eval.errors import DataError, MissingData, UnknownName
from emu2eval.spec import catalog
from emu2eval.spec.task import Task

_ROOT_HINT = "if the data is elsewhere: export EMU2EVAL_DATA=/path/to/data"


def choose(task: Task, splits: Iterable[str], wanted: str | None = None) -> tuple[Task, list[str]]:
    """The task with the source of each split decided, and notes on what a user should know.

    wanted: `official`, or the name of a source; None = the official files, or where they are not
    there, a source that is. Raises DataError for a split that the source does not hold faithfully, and
    UnknownName for a source that the task does not have.
    """
    known = [OFFICIAL, *task.spec.data.sources]
    if wanted is not None and wanted not in known:
        raise UnknownName("source", wanted, known, hint=_no_sources(task), of=task.name)
    chosen: dict[str, str] = {}
    notes: list[str] = []
    for split in dict.fromkeys(splits):
        source = _source(task, split, wanted)
        if source != OFFICIAL:
            chosen[split] = source
            repo = task.spec.data.sources[source].repo
            why = "" if wanted else "; the official files are missing"
            notes.append(f"{task.name}, split {split}: from {repo} on the {source}{why}")
        elif wanted not in (None, OFFICIAL):
            repo = task.spec.data.sources[wanted or ""].repo
            notes.append(
                f"{task.name}, split {split}: from the official files; {repo} has no such split"
            )
        notes += [
            f"{task.name}, split {split}: {piece.seen}"
            for piece in pieces(task, split, source)
            if piece.usable and piece.state == "half"
        ]
    return replace(task, sources=chosen), notes


def _source(task: Task, split: str, wanted: str | None) -> str:
    sources = task.spec.data.sources
    if wanted == OFFICIAL or not sources:
        return OFFICIAL
    if wanted is not None:
        source = sources[wanted]
        if split in source.refused:
            raise DataError(
                f"{source.repo} does not contain the original split {split} of {task.name}: "
                f"{source.refused[split]}",
                where=task.document.where(("data", "sources", wanted, "refused", split)),
                hint=f"use the official files; for their origin: emu2eval data status {task.name}",
            )
        return wanted if split in source.splits else OFFICIAL
    official = pieces(task, split, OFFICIAL)
    if all(piece.usable for piece in official):
        return OFFICIAL
    nothing = all(piece.state == "missing" for piece in official)
    for name, source in sources.items():
        if split not in source.splits:
            continue
        (piece,) = pieces(task, split, name)
        # A half of one is worth completing where there is nothing of the other.
        if piece.usable or (nothing and piece.state == "half"):
            return name
    return OFFICIAL


def require(task: Task, splits: Iterable[str]) -> None:
    """Raises MissingData with everything that must still be fetched for these splits, at once."""
    wanted = list(dict.fromkeys(splits))
    lines: list[str] = []
    lost: dict[str, list[Piece]] = {}
    for split in wanted:
        for piece in pieces(task, split, task.sources.get(split, OFFICIAL)):
            if piece.usable:
                continue
            lost.setdefault(split, []).append(piece)
            given = " and ".join(str(path) for path in piece.gives)
            what = f"  - {piece.what}" + (f", {piece.size}" if piece.size else "")
            if piece.state == "half" or piece.seen.endswith("is empty"):
                what += f"; {piece.seen}"
            entry = f"{what}\n      fetch  {piece.fetch}"
            if not piece.get:
                entry += f" by hand\n      unpack in {piece.into}/ to give {given}"
                entry += f"\n      {piece.note}" if piece.note else ""
            entry += f"\n      but {piece.found}" if piece.found else ""
            if entry not in lines:
                lines.append(entry)
    if lines:
        head = f"data of {task.name} (split {' and '.join(sorted(wanted))}) is missing:"
        brought = [split for split, those in lost.items() if any(piece.get for piece in those)]
        source = next((task.sources[split] for split in brought if split in task.sources), None)
        hints = [_command(task, brought, source, lost)] if brought else []
        hints += [_ROOT_HINT] if task.spec.data.root is None else []
        raise MissingData(
            "\n".join([head, *lines, *_other_ways(task, wanted)]),
            where=_where(task),
            hint="\n         ".join(hints) or None,
            task=_name(task) if brought else None,
            splits=brought,
            source=source,
        )


def get_command(task: str, splits: Iterable[str], source: str | None) -> str:
    """The command that brings the data of some splits."""
    words = ["emu2eval", "data", "get", task]
    for split in splits:
        words += ["--split", split]
    return shlex.join([*words, *(["--source", source] if source else [])])


def _command(
    task: Task, splits: list[str], source: str | None, lost: Mapping[str, Sequence[Piece]]
) -> str:
    by_hand = any(not piece.get for those in lost.values() for piece in those)
    what = " (except for files that require a form or an account)" if by_hand else ""
    return f"to download it: {get_command(_name(task), splits, source)}{what}"


def _name(task: Task) -> str:
    """As a command names the task."""
    shipped = catalog.names("task").get(task.name)
    return task.name if shipped == task.document.path else str(task.document.path)


def _where(task: Task) -> str:
    root = task.root.resolve()
    if not root.exists():
        return f"data root {root} (does not exist)"
    return f"data root {root}"


def _other_ways(task: Task, splits: list[str]) -> list[str]:
    """That a source would do as well, for the splits that it has."""
    lines = []
    for name, source in task.spec.data.sources.items():
        able = [s for s in splits if s in source.splits and s not in task.sources]
        if able:
            (piece,) = pieces(task, able[0], name)
            seen = f" ({piece.seen})" if piece.state == "half" else ""
            command = get_command(_name(task), able, name)
            lines.append(f"  or split {' and '.join(able)} from the {name}{seen}: {command}")
    return lines


def _no_sources(task: Task) -> str | None:
    if task.spec.data.sources:
        return None
    return f"{task.name} supports only the official files; remove --source"
