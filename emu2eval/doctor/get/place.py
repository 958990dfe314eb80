"""From a folder beside into place: each thing by one rename, so that half of one is never taken for whole."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from emu2eval.doctor.get.disk import writing
from emu2eval.errors import DataError


def adopt(one: Path, folder: Path, name: str, wanted: Sequence[Path]) -> None:
    """Moves what came out of one archive into the folder that it lay in.

    Where a folder of the archive's own name is wanted there, and the archive has none, it is that folder.
    """
    own = folder / name.partition(".")[0]
    with writing(folder):
        if own in wanted and not (one / own.name).exists() and not any(_named(one, own.name)):
            _move(one, own)
        else:
            _merge(one, folder)
        shutil.rmtree(one, ignore_errors=True)


def arrange(staged: Path, gives: Sequence[PurePosixPath]) -> None:
    """Has what is wanted stand in a folder of what came as it is to stand in the data, relative to it.

    An archive whose folders are named otherwise than expected is searched for it, and the rest left away.
    Raises DataError with what the archive holds, where something wanted is not there.
    """
    found = {each: _found(staged, each) for each in gives}
    lost = [str(each) for each, path in found.items() if path is None]
    if lost:
        held = [path.name for path in _top(staged)]
        more = f" and {len(held) - 8:,} more" if len(held) > 8 else ""
        raise DataError(
            f"the download does not contain {' and '.join(lost)}, but "
            f"{', '.join(held[:8]) or 'nothing'}{more}",
            where=staged,
            hint="it has changed at its source: move the files into place by hand, or report it",
        )
    if all(path == staged / each for each, path in found.items()):
        return
    with writing(staged):
        anew = staged.with_name(f"{staged.name}.anew")
        shutil.rmtree(anew, ignore_errors=True)
        for each, path in found.items():
            assert path is not None
            (anew / each).parent.mkdir(parents=True, exist_ok=True)
            path.rename(anew / each)
        shutil.rmtree(staged, ignore_errors=True)
        anew.rename(staged)


def place(staged: Path, into: Path) -> None:
    """Moves what stands in a folder to where the reader looks. Called again after a kill, it goes on."""
    with writing(into):
        _merge(staged, into)


def _found(staged: Path, wanted: PurePosixPath) -> Path | None:
    """Where something wanted is: as named, else the only one of its name, else, for a folder, all."""
    exact = staged / wanted
    if exact.exists():
        return exact
    inner = list(_named(staged, wanted.name))
    if inner:
        return inner[0] if len(inner) == 1 else None
    if wanted.suffix:
        return None
    top = _top(staged)
    folders = [path for path in top if path.is_dir()]
    if len(top) == 1 and folders:
        return folders[0]
    return staged if top and not folders else None


def _named(staged: Path, name: str) -> Iterator[Path]:
    for folder, folders, files in os.walk(staged):
        if name in folders or name in files:
            yield Path(folder, name)
            folders[:] = [each for each in folders if each != name]


def _top(staged: Path) -> list[Path]:
    return sorted(staged.iterdir()) if staged.is_dir() else []


def _merge(source: Path, target: Path) -> None:
    """Every entry of a folder into another, which may hold some of them."""
    target.mkdir(parents=True, exist_ok=True)
    for path in _top(source):
        _move(path, target / path.name)


def _move(source: Path, target: Path) -> None:
    if source.is_dir() and target.is_dir():
        _merge(source, target)
        return
    if source.is_dir() and target.exists():
        raise DataError("a file is in the place of a folder", where=target, hint="move it away")
    if target.is_dir():
        raise DataError("a folder is in the place of a file", where=target, hint="move it away")
    try:
        source.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # The folder is a link to another disk: copied beside its place first.
        beside = target.with_name(f".{target.name}.emu2eval")
        if source.is_dir():
            shutil.rmtree(beside, ignore_errors=True)
            shutil.copytree(source, beside)
        else:
            shutil.copyfile(source, beside)
        beside.replace(target)


def relative(paths: Sequence[Path], into: Path) -> tuple[PurePosixPath, ...]:
    """The paths as they are below `into`; those that are elsewhere are left out."""
    return tuple(
        PurePosixPath(path.relative_to(into).as_posix())
        for path in paths
        if path.is_relative_to(into)
    )
