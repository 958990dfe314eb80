"""Whether a table that was kept is the one that would be printed now: what a check in CI asks."""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from emu2eval.errors import ConfigError, StoreError

FORMS: Mapping[str, str] = {".md": "markdown", ".csv": "csv", ".json": "json", ".tex": "latex"}
_NAMING = (
    "paper", "id", "table", "column", "task", "split", "protocol", "group", "model", "shots", "ablation",
    "seed", "source", "metric", "variant", "judge", "encoder",
)  # fmt: skip
_PASSING = frozenset({"seconds", "run"})
"""Fields that another run of the same thing changes."""


@dataclass(frozen=True, slots=True)
class Change:
    """where: what the number is of, or the line of a text. kept, now: None where it is not there."""

    where: str
    kept: str | None
    now: str | None


def files(place: Path, name: str) -> list[Path]:
    """The kept tables: the file itself, or those of that name in a folder. Raises ConfigError for none."""
    if not place.is_dir():
        form_of(place)
        return [place]
    found = [place / f"{name}{end}" for end in FORMS if (place / f"{name}{end}").is_file()]
    if not found:
        raise ConfigError(
            f"this folder contains no saved table {name}{'|'.join(FORMS)}",
            where=place,
            hint=f"emu2eval table … --format markdown > {place / name}.md",
        )
    return found


def form_of(file: Path) -> str:
    """The format by the file's ending. Raises ConfigError."""
    if file.suffix not in FORMS:
        raise ConfigError(f"a saved table is one of {', '.join(FORMS)}", where=file)
    return FORMS[file.suffix]


def changes(file: Path, now: str) -> list[Change]:
    """What differs between the kept file and the text that is printed now.

    CSV and JSON are compared number by number, without seconds and names of runs, which change each time;
    Markdown and LaTeX line by line. Raises StoreError.
    """
    try:
        kept = file.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise StoreError(f"cannot read the saved table ({error})", where=file) from None
    if file.suffix in (".md", ".tex"):
        return list(_lines(kept, now))
    read = _json if file.suffix == ".json" else _csv
    try:
        before = dict(read(kept))
    except (msgspec.DecodeError, csv.Error, AttributeError) as error:
        raise StoreError(f"the saved table is damaged ({error})", where=file) from None
    after = dict(read(now))
    return [
        Change(where, before.get(where), after.get(where))
        for where in dict.fromkeys([*before, *after])
        if before.get(where) != after.get(where)
    ]


def _lines(kept: str, now: str) -> Iterator[Change]:
    def body(text: str) -> list[str]:
        lines = text.splitlines()
        # What says that a file is made by a program is no part of the table.
        while lines and (lines[0].startswith("<!--") or not lines[0]):
            del lines[0]
        return lines

    before, after = body(kept), body(now)
    matcher = difflib.SequenceMatcher(a=before, b=after, autojunk=False)
    for kind, a, b, c, d in matcher.get_opcodes():
        if kind == "equal":
            continue
        for offset in range(max(b - a, d - c)):
            old = before[a + offset] if a + offset < b else None
            new = after[c + offset] if c + offset < d else None
            yield Change(f"line {a + offset + 1}", old, new)


def _json(text: str) -> Iterator[tuple[str, str]]:
    return _flat(msgspec.json.decode(text), ())


def _csv(text: str) -> Iterator[tuple[str, str]]:
    return _flat(list(csv.DictReader(io.StringIO(text))), ())


def _flat(value: Any, where: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Every number and text with what it is of; items of a list by what names them, else by place."""
    if isinstance(value, Mapping):
        for name, each in value.items():
            if name not in _PASSING:
                yield from _flat(each, (*where, str(name)))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        seen: dict[str, int] = {}
        for item in value:
            name = _name(item)
            seen[name] = seen.get(name, 0) + 1
            place = name if name and seen[name] == 1 else f"{name}#{seen[name]}"
            yield from _flat(item, (*where[:-1], place))
    else:
        yield ", ".join(where), "–" if value is None or value == "" else str(value)


def _name(item: Any) -> str:
    if not isinstance(item, Mapping):
        return ""
    return " ".join(str(item[key]) for key in _NAMING if item.get(key) not in (None, "", "none"))
