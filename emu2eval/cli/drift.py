"""`emu2eval table --check`: a table that was kept, against the one that would be printed now."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import typer

from emu2eval.cli.say import put, say

_MOST = 20


def check_kept(place: Path, name: str, render: Callable[[str], str]) -> None:
    """Says what differs from the kept files, and ends with 4 where something does.

    place: a file, or a folder with files of that name. render: the table in a format.
    """
    from emu2eval.report import drift

    drifted = False
    for file in drift.files(place, name):
        found = drift.changes(file, render(drift.form_of(file)))
        drifted = drifted or bool(found)
        put(f"{file}: {f'{len(found):,} changed' if found else 'unchanged'}\n")
        for change in found[:_MOST]:
            put(
                f"  {change.where}\n    saved {_shown(change.kept)}\n    now   {_shown(change.now)}\n"
            )
        if len(found) > _MOST:
            put(f"  and {len(found) - _MOST:,} more\n")
    if drifted:
        say("to accept the changes, write the table over the saved file")
        raise typer.Exit(4)


def _shown(text: str | None) -> str:
    return "(missing)" if text is None else text
