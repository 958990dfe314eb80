"""What every kind of foreign file is read into."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from emu2eval.types import Response


@dataclass(frozen=True, slots=True)
class Entry:
    """One answer. where: `file:line`; columns: what may say which sample it is for, and texts of it.

    choices: the texts whose log-probabilities the response holds, in its order; () = not said.
    theirs: scores that the file gives it, by name. filter: whose output it is, in a harness with filters.
    """

    where: str
    columns: Mapping[str, Any]
    response: Response
    choices: tuple[str, ...] = ()
    theirs: Mapping[str, float] = field(default_factory=dict)
    filter: str | None = None


@dataclass(frozen=True)
class Log:
    """A foreign file. origin: what wrote it, for people; files: name -> hex sha256 of its bytes.

    asker: a short name of the harness whose prompts were asked; None = not known.
    model, shots: what it says of them; None = nothing. answer: where the answers stood. row_number: the
    column that is the number of a row, from 0, and never an id. notes: what a user should know.
    """

    origin: str
    files: Mapping[str, str]
    entries: Sequence[Entry]
    answer: str
    asker: str | None = None
    model: str | None = None
    shots: int | None = None
    row_number: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a user asked for. kind: of the task's output; filtered, filter: of harnesses with filters."""

    kind: str
    answer: str | None = None
    filtered: bool = False
    filter: str | None = None


def flat(row: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The texts and numbers of a row, with dotted names where they stand inside others.

    >>> dict(flat({"a": 1, "b": {"c": "x", "d": [2]}}))
    {'a': 1, 'b.c': 'x'}
    """
    for name, value in row.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        elif isinstance(value, (str, int, float)) and not isinstance(value, bool):
            yield f"{prefix}{name}", value
