"""Which stored answers are damaged, told of a run before something is made of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from emu2eval.runs.sealed import Damaged, unseal
from emu2eval.runs.store import ANSWERS


def damaged_answers(folder: Path) -> Iterator[tuple[Path, int]]:
    """(file, lines that are not as they were written) of a run and of its judges' replies.

    A last line without an end counts: it is damaged, or a run is writing it right now.
    """
    for path in (folder / ANSWERS, *sorted(folder.glob(f"judge/*/{ANSWERS}"))):
        try:
            with path.open("rb") as lines:
                count = sum(not _holds(line) for line in lines)
        except OSError:  # whoever needs it says so
            continue
        if count:
            yield path, count


def _holds(line: bytes) -> bool:
    try:
        unseal(line[:-1])
    except Damaged:
        return False
    return line.endswith(b"\n")
