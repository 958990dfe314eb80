"""What of a task's data is there: told by names and counts alone, so that it is quick at any size."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from emu2eval.data.elsewhere import elsewhere, held_in, too_deep
from emu2eval.data.shards import missing_shards, patterns
from emu2eval.spec.data import Download, SourceSpec
from emu2eval.spec.remote import RemoteFile, remote_files
from emu2eval.spec.task import Task

OFFICIAL = "official"
"""The name of the official files among the sources of a task."""

AREA = ".emu2eval"
"""The folder of what `emu2eval data get` is bringing into the folder around it."""

State = Literal["there", "half", "missing"]


@dataclass(frozen=True)
class Piece:
    """One thing to fetch for a split, and what is there of it.

    seen: how much is there, or what is wrong; usable: a run can start with it; found: where it seems
    to lie instead, and what to do about it; get: what `emu2eval data get` brings, empty = nothing.
    """

    what: str
    size: str
    fetch: str
    into: Path
    gives: tuple[Path, ...]
    state: State
    usable: bool
    seen: str
    note: str | None = None
    found: str | None = None
    get: tuple[RemoteFile, ...] = ()


def pieces(task: Task, split: str, source: str) -> list[Piece]:
    """Everything that the split needs from a source, in the order of the task's file."""
    if source != OFFICIAL:
        return [_hub_piece(task.root, task.spec.data.sources[source], split)]
    found: list[Piece] = []
    for download in task.spec.data.downloads:
        own = tuple(_needed(task, split, download.gives))
        if own and (not download.splits or split in download.splits):
            found.append(_official_piece(task, msgspec.structs.replace(download, gives=own)))
    return found


def _needed(task: Task, split: str, gives: Sequence[str]) -> Iterator[str]:
    """What a split needs of the things that one download gives.

    Splits name their files in the options of their reader. What the options of other splits alone name is
    theirs, and what the task's file names where --set names something else is nobody's; what is named nowhere
    belongs to all, as images beside a file do.
    """
    data = task.spec.data
    named = {each: list(_texts({**data.options, **own})) for each, own in data.splits.items()}
    written = task.document.data.get("data", {})
    replaced = list(_texts([written.get("options", {}), written.get("splits", {})]))
    for path in gives:
        users = {each for each, texts in named.items() if any(_touch(path, t) for t in texts)}
        if split in users or not (users or any(_touch(path, text) for text in replaced)):
            yield path


def _texts(options: Any) -> Iterator[str]:
    """Every text in the options of a reader."""
    if isinstance(options, str):
        yield options
    elif isinstance(options, Mapping):
        yield from _texts(list(options.values()))
    elif isinstance(options, (list, tuple)):
        for each in options:
            yield from _texts(each)


def _touch(one: str, other: str) -> bool:
    """The same place, or one below the other."""
    one, other = one.rstrip("/") + "/", other.rstrip("/") + "/"
    return one.startswith(other) or other.startswith(one)


def _official_piece(task: Task, download: Download) -> Piece:
    root = task.root
    state, usable, seen = _official_state(root, download)
    if _on_the_way(root, download):
        state, usable, seen = "half", False, _CUT_SHORT
    return Piece(
        what=download.what,
        size=download.size,
        fetch=download.source,
        into=root / download.into,
        gives=tuple(root / path for path in download.gives),
        state=state,
        usable=usable,
        seen=seen,
        note=download.note,
        found=None if usable else elsewhere(task, download),
        get=remote_files(download.get),
    )


_CUT_SHORT = "a download was not moved into place completely; `emu2eval data get` continues it"


def _on_the_way(root: Path, download: Download) -> bool:
    """Whether something of it came, and was still being moved into its place when that was stopped."""
    into = root / download.into
    return any(
        (came / Path(root / path).relative_to(into)).exists()
        for came in (into / AREA).glob("*.unpacked")
        for path in download.gives
        if (root / path).is_relative_to(into)
    )


def _official_state(root: Path, download: Download) -> tuple[State, bool, str]:
    wrong: list[str] = []
    counts: list[str] = []
    short = False
    for path in download.gives:
        held = held_in(root / path)
        if held is None:
            wrong.append(f"{path} does not exist")
        elif held == 0:
            wrong.append(f"{path} is empty")
        elif held == 1 and too_deep(root / path) is not None:
            wrong.append(f"{path} contains only another folder of the same name")
        elif download.files is not None and (root / path).is_dir():
            short |= held < download.files
            counts.append(f"{path} contains {held:,} of {download.files:,} files")
    if wrong:
        return ("half" if len(wrong) < len(download.gives) else "missing"), False, "; ".join(wrong)
    return ("half" if short else "there"), True, "; ".join(counts)


def _hub_piece(root: Path, source: SourceSpec, split: str) -> Piece:
    folder = root / source.folder
    wanted = patterns(source.files(split))
    fitting = {pattern: [p for p in folder.glob(pattern) if p.is_file()] for pattern in wanted}
    lost = [pattern for pattern, paths in fitting.items() if not paths]
    lost += [name for paths in fitting.values() for name in missing_shards(paths)]
    files = sum(len(paths) for paths in fitting.values())
    cut_short = any((folder / AREA).glob("*.unpacked"))
    state: State = "there" if not (lost or cut_short) else "half" if files else "missing"
    more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
    include = "".join(f" --include {shlex.quote(pattern)}" for pattern in wanted)
    return Piece(
        what=f"{source.repo} on the hub",
        size=source.size,
        fetch=f"hf download {source.repo} --repo-type dataset{include} "
        f"--local-dir {shlex.quote(str(folder))}",
        into=folder,
        gives=tuple(folder / pattern for pattern in wanted),
        state=state,
        usable=state == "there",
        seen=f"{lost[0]}{more} missing"
        if lost
        else _CUT_SHORT
        if cut_short
        else f"{files:,} files",
        note=source.note,
        get=(RemoteFile(hub=source.repo, revision=source.revision, files=tuple(wanted)),),
    )
