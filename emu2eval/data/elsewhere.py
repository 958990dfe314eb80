"""Where data may lie instead of where it is looked for: packed, a folder too deep, in another folder."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from emu2eval.spec import catalog
from emu2eval.spec.data import Download
from emu2eval.spec.task import Task, load_task

_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")


def held_in(path: Path) -> int | None:
    """Entries of a folder, bytes of a file; None = it is not there."""
    try:
        if path.is_dir():
            with os.scandir(path) as entries:
                return sum(not entry.name.startswith(".") for entry in entries)
        return path.stat().st_size
    except OSError:
        return None


def too_deep(folder: Path) -> Path | None:
    """The folder of the same name that is all a folder holds, as `unzip -d val2014 val2014.zip` leaves it."""
    inner = folder / folder.name
    return inner if inner.is_dir() and held_in(folder) == 1 else None


def elsewhere(task: Task, download: Download) -> str | None:
    """What a user has most likely done with it: left it packed, or put it into another folder."""
    for path in download.gives:
        deeper = _too_deep(task.root / path)
        if deeper is not None:
            return deeper
        if held_in(task.root / path):
            continue
        found = _packed(task.root, download, path) or _misplaced(task, path)
        if found is not None:
            return found
    return None


def _packed(root: Path, download: Download, path: str) -> str | None:
    """The archive lies there, not unpacked."""
    into = root / download.into
    archive = download.source.rpartition("/")[2].partition("?")[0]
    names = {archive} | {f"{Path(path).name}{ending}" for ending in _ARCHIVES}
    own = {into, (root / path).parent} - {root}
    for folder in dict.fromkeys((into, (root / path).parent, root, root.parent)):
        for name in sorted(names):
            if name != archive and folder not in own and name.partition(".")[0].lower() in _BARE:
                continue  # such as images.zip, which may be another benchmark's
            packed = folder / name
            if name.endswith(_ARCHIVES) and packed.is_file():
                return f"{packed} is not unpacked yet: {_unpack(packed, into)}"
    return None


def _unpack(archive: Path, into: Path) -> str:
    if archive.suffix == ".zip":
        return f"unzip -q {shlex.quote(str(archive))} -d {shlex.quote(str(into))}"
    target = shlex.quote(str(into))
    return f"mkdir -p {target} && tar -xf {shlex.quote(str(archive))} -C {target}"


def _too_deep(wanted: Path) -> str | None:
    """What to do about `val2014/val2014/`."""
    inner = too_deep(wanted)
    if inner is None:
        return None
    here, there = shlex.quote(str(wanted)), shlex.quote(f"{wanted}.new")
    steps = f"mv {shlex.quote(str(inner))} {there} && rmdir {here} && mv {there} {here}"
    return f"its files are nested one folder too deep, in {inner}: {steps}"


def _misplaced(task: Task, path: str) -> str | None:
    """The same name in a folder near by: a level too deep, too high, or below another data root."""
    root, wanted = task.root, task.root / path
    bare = wanted.name.partition(".")[0].lower() in _BARE
    if task.spec.data.root is None and not (bare and "/" not in path):
        for place in _roots_near(root):
            if held_in(place / path) and not _taken(task, path, place / path):
                return f"it is under {place}: export EMU2EVAL_DATA={shlex.quote(str(place))}"
    if bare:
        return None  # many benchmarks have such a folder, and this one would be somebody else's
    for folder in (wanted, *_folders(wanted.parent), root, *_folders(root)):
        other = folder / wanted.name
        if other != wanted and held_in(other) and not _anothers(task, path, other):
            return f"it is in {other}: move it to {wanted}"
    return None


_BARE = frozenset(
    "annotation annotations caption captions data dataset datasets dev file files frames image images img "
    "imgs instances label labels photos pictures query question questions support test testdev train "
    "training val valid validation video videos".split()
)
"""Names that say what is in a file or a folder, not whose it is."""


def _anothers(task: Task, path: str, other: Path) -> bool:
    """Whether a place that seems to hold what a task looks for at a path is, or may be, another's."""
    named = {*_shipped(), *_claimed(task)} - {path}
    alike = any(each.rpartition("/")[2] == other.name for each in named)
    return alike or _taken(task, path, other)


def _taken(task: Task, path: str, other: Path) -> bool:
    """Whether a shipped task, or something else of this one, has its data there, below it or above it."""
    places = (task.root / each for each in {*_shipped(), *_claimed(task)} - {path})
    return any(other.is_relative_to(p) or p.is_relative_to(other) for p in places)


@lru_cache(maxsize=1)
def _shipped() -> frozenset[str]:
    """Every place below the data root that a shipped task has its data in."""
    tasks = (load_task(name) for name in catalog.names("task"))
    return frozenset(p for task in tasks if task.spec.data.root is None for p in _claimed(task))


def _claimed(task: Task) -> Iterator[str]:
    for download in task.spec.data.downloads:
        yield from download.gives
    for source in task.spec.data.sources.values():
        yield source.folder


def _roots_near(root: Path) -> Iterator[Path]:
    yield root.parent
    yield from _folders(root)
    yield from (place for place in _folders(root.parent) if place != root)


def _folders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            # Enough to find a mistake; a folder of images may hold a hundred thousand entries.
            return sorted(
                Path(e.path) for e, _ in zip(entries, range(500), strict=False) if e.is_dir()
            )
    except OSError:
        return []
