"""The files of a split that comes in shards, `validation-00003-of-00068.parquet`: all of one upload."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path

from emu2eval.data.paths import inside
from emu2eval.errors import DataError, MissingData

_SHARD = re.compile(r"(.*?)-(\d{5})-of-(\d{5})(-[0-9a-f]+)?\.\w+")
_DIGIT = re.compile(r"\d")
_DATA = {".csv", ".tsv", ".json", ".jsonl", ".parquet", ".arrow", ".tar"}
_AGAIN = "run the same `hf download` again, which downloads only missing files"


_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_LIST = re.compile(r"\{([^{}]*,[^{}]*)\}")
_MOST = 100_000
"""Files that the braces of one pattern stand for."""


def patterns(files: str | Sequence[str]) -> list[str]:
    """Each pattern, its braces written out as a shell does.

    >>> patterns("a-{08..10}.tar"), patterns(["{a,b}.csv"])
    (['a-08.tar', 'a-09.tar', 'a-10.tar'], ['a.csv', 'b.csv'])
    """
    return [each for one in ([files] if isinstance(files, str) else files) for each in _braces(one)]


def _braces(pattern: str) -> list[str]:
    found = [pattern]
    while (match := _RANGE.search(found[0]) or _LIST.search(found[0])) is not None:
        if match.re is _RANGE:
            first, last = match[1], match[2]
            count = abs(int(last) - int(first)) + 1 if max(len(first), len(last)) < 10 else _MOST
            if count * len(found) >= _MOST:
                raise DataError(f"{pattern!r} matches more than {_MOST:,} files", where="files")
            step = 1 if int(first) <= int(last) else -1
            inner = [f"{n:0{len(first)}d}" for n in range(int(first), int(last) + step, step)]
        else:
            inner = match[1].split(",")
        rule = match.re
        found = [
            each[: place.start()] + text + each[place.end() :]
            for each in found
            for text in inner
            if (place := rule.search(each)) is not None
        ]
        if len(found) >= _MOST:
            raise DataError(f"{pattern!r} matches more than {_MOST:,} files", where="files")
    return found


def shards(root: Path, files: str | Sequence[str]) -> list[Path]:
    """The files below `root` that fit the patterns, in order.

    Raises MissingData where a pattern fits none or a shard is not there, DataError where the shards of
    two uploads lie side by side: every sample would stand twice.
    """
    found: list[Path] = []
    for pattern in patterns(files):
        literal = inside(root, pattern, where="files")
        # A name may hold what means something in a pattern: data[1].csv.
        fitting = [literal] if literal.is_file() else []
        fitting = fitting or sorted(path for path in root.glob(pattern) if path.is_file())
        if not fitting:
            raise MissingData(
                f"no file matches {pattern!r}",
                where=root,
                hint=_alike(root, pattern) or _loading_script(root) or _hint(root),
            )
        found += fitting
    found = list(dict.fromkeys(found))
    by_folder: defaultdict[Path, list[Path]] = defaultdict(list)
    for path in found:
        by_folder[path.parent].append(path)
    for paths in by_folder.values():
        _check_whole(paths, root)
    return found


def _alike(root: Path, pattern: str) -> str | None:
    """What to do where a file beside the missing one has nearly its name."""
    folder = (root / pattern).parent
    wanted = Path(pattern).name
    beside = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    # Another number is another shard, and not the same file misspelt.
    beside = [name for name in beside if _DIGIT.sub("0", name) != _DIGIT.sub("0", wanted)]
    near = get_close_matches(wanted, beside, n=1, cutoff=0.75)
    return f"did you mean {near[0]!r}? Set `files` in the task file" if near else None


def _hint(root: Path) -> str:
    if "hub" in root.parts:
        return _AGAIN
    return "`files` in the task file takes files or patterns below `data.root`"


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
                f"shards of two uploads are mixed: {left}-…-of-{few:05d} and …-of-{many:05d}",
                where=root,
                hint="keep those of the newer upload and remove the others, which contain the same samples",
            )
    lost = missing_shards(paths)
    if lost:
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        raise MissingData(f"the shard {lost[0]}{more} is missing", where=root, hint=_AGAIN)


def _loading_script(root: Path) -> str | None:
    """What to do about a repository that is a program for `datasets` 3 and older, which is not run."""
    scripts = sorted(root.glob("*.py"))
    if not scripts or any(path.suffix in _DATA for path in root.iterdir()):
        return None
    return (
        f"{scripts[0].name} is a loading script: this repository contains a program instead of data, "
        "which is never run; use the repository named in the task file"
    )
