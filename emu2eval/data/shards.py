"""The files of a split that comes in shards, `validation-00003-of-00068.parquet`: all of one upload."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from emu2eval.data.paths import inside
from emu2eval.errors import DataError, MissingData

_SHARD = re.compile(r"(.*?)-(\d{5})-of-(\d{5})(-[0-9a-f]+)?\.\w+")
_AGAIN = "run the same `hf download` again: it fetches only what is missing"


def patterns(files: str | Sequence[str]) -> list[str]:
    return [files] if isinstance(files, str) else list(files)


def shards(root: Path, files: str | Sequence[str]) -> list[Path]:
    """The files below `root` that fit the patterns, in order.

    Raises MissingData where a pattern fits none or a shard is not there, DataError where the shards of
    two uploads lie side by side: every sample would stand twice.
    """
    found: list[Path] = []
    for pattern in patterns(files):
        inside(root, pattern, where="files")
        fitting = sorted(path for path in root.glob(pattern) if path.is_file())
        if not fitting:
            raise MissingData(
                f"no file fits {pattern!r}", where=root, hint=_loading_script(root) or _AGAIN
            )
        _check_whole(fitting, root)
        found += fitting
    return list(dict.fromkeys(found))


def missing_shards(paths: Iterable[Path]) -> list[str]:
    """The names of the shards that are not there, as far as the names of the others tell."""
    lost: list[str] = []
    for (stem, total), numbers in _numbered(paths).items():
        lost += [
            f"{stem}-{number:05d}-of-{total:05d}"
            for number in range(total)
            if number not in numbers
        ]
    return lost


def _numbered(paths: Iterable[Path]) -> dict[tuple[str, int], set[int]]:
    uploads: defaultdict[tuple[str, int], set[int]] = defaultdict(set)
    for path in paths:
        shard = _SHARD.fullmatch(path.name)
        if shard is not None:
            uploads[shard[1], int(shard[3])].add(int(shard[2]))
    return uploads


def _check_whole(paths: list[Path], root: Path) -> None:
    uploads = sorted(_numbered(paths))
    for (left, few), (right, many) in pairwise(uploads):
        if left == right:
            raise DataError(
                f"shards of two uploads lie side by side: {left}-…-of-{few:05d} and …-of-{many:05d}",
                where=root,
                hint="keep those of the newer upload and remove the others: they hold the same samples",
            )
    lost = missing_shards(paths)
    if lost:
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        raise MissingData(f"the shard {lost[0]}{more} is not there", where=root, hint=_AGAIN)


def _loading_script(root: Path) -> str | None:
    """What to do about a repository that is a program for `datasets` 3 and older, which is not run."""
    scripts = sorted(root.glob("*.py"))
    if not scripts:
        return None
    return (
        f"{scripts[0].name} is a loading script: this repository holds a program instead of data, and "
        "such programs are never run; take the repository named in the task's file"
    )
