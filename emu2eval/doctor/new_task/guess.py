"""What the columns of some rows are for, guessed by their names and by what they hold; with the reasons."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from emu2eval.data.embedded import is_base64
from emu2eval.doctor.new_task.look import Look, distinct
from emu2eval.media import suffixes
from emu2eval.types import Image

_IDS = "id question_id qid sample_id uid uuid key index idx".split()
_QUESTIONS = (
    "question prompt query instruction problem input text sentence utterance expression".split()
)
_ANSWERS = (
    "answer label target output response multiple_choice_answer gt ground_truth correct_answer solution "
    "class category caption cls txt"
).split()
_MANY = "answers references captions targets labels gts".split()
_CHOICES = "choices options candidates multiple_choices answer_choices".split()
_SPLITS = "split subset partition part fold".split()
_GROUPS = (
    "question_type answer_type type category topic subject domain difficulty level task source language"
).split()
_INNER = "answer text raw caption value".split()
_FEW = 20
"""Different answers or labels that are few."""


@dataclass
class Guess:
    """Options of the reader, with why; and what the task makes of them."""

    options: dict[str, tuple[Any, str]] = field(default_factory=dict)
    question: str | None = None
    images: int = 0
    videos: bool = False
    closed: bool = False
    classes: bool = False
    answers: tuple[str, ...] = ()
    references: int = 1
    split_column: str | None = None
    splits: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)
    left: tuple[str, ...] = ()


def guess(found: Look) -> Guess:
    """Of the rows that were looked at; they may be none."""
    made = Guess()
    columns = _Columns(found)
    used: set[str] = set()

    def take(option: str, value: Any, why: str, *names: str) -> None:
        made.options[option] = (value, why)
        used.update(names)

    pictures = columns.holding(_is_picture)
    films = columns.holding(_is_film)
    made.images, made.videos = len(pictures), bool(films)
    if pictures != ["image"]:
        value: Any = pictures[0] if len(pictures) == 1 else pictures or False
        take(
            "images",
            value,
            "contains images" if pictures else "no column contains images",
            *pictures,
        )
    used |= {*pictures, *films}
    if films:
        take("videos", films[0] if len(films) == 1 else films, "lists video files", *films)
    folder, lost = _folder(found.root, columns, [*pictures, *films])
    if folder:
        take("folder", folder, "the files are there")
    if lost:
        made.notes.append(lost)
    named = columns.first(_IDS, lambda name: columns.unique(name)) or next(
        (n for n in columns.plain if n.lower().endswith("_id") and columns.unique(n)), None
    )
    if named is not None:
        if named != "id":
            take("id", named, "unique in every row inspected")
        used.add(named)
    elif "id" in columns.names:
        take("id", False, "the column id is not unique, so a digest is used", "id")
    else:
        made.notes.append("no id column, so a sample's id is a digest of its content")
    parts = columns.first(_SPLITS, lambda n: n in columns.plain and len(columns.values(n)) <= _FEW)
    if parts is not None and len(found.files) < 2:
        # Rows are often sorted by it, so that the first ones know one value.
        values = distinct(found, parts, _FEW)
        if 1 < len(values) <= _FEW:
            made.split_column, made.splits = parts, tuple(sorted(values))
            used.add(parts)
    _choices(columns, made, take, used)
    _answers(columns, found, made, take, used)
    made.question = columns.first(
        _QUESTIONS, lambda n: n not in used and n in columns.plain
    ) or next(
        (n for n in columns.plain if n not in used and _first_word(n) in _QUESTIONS[:4]), None
    )
    used |= {made.question} if made.question else set()
    labels = [
        name
        for name in columns.plain
        if name not in used and name.lower() in _GROUPS and 1 < len(columns.values(name)) <= _FEW
    ]
    if labels:
        take("groups", labels, "few values, so sub-scores are shown for each", *labels)
    made.left = tuple(name for name in columns.plain if name not in used)
    return made


def _choices(columns: _Columns, made: Guess, take: Callable[..., None], used: set[str]) -> None:
    named = columns.first(_CHOICES, lambda n: n in columns.lists or columns.barred(n))
    letters = [name for name in ascii_uppercase if name in columns.names]
    for pattern in ("option_{}", "choice_{}", "option{}", "choice{}", "opt_{}", "choice_{}"):
        for marks in (ascii_uppercase, ascii_uppercase.lower(), "0123456789", "123456789"):
            own = [n for mark in marks if (n := pattern.format(mark)) in columns.names]
            letters = own if len(own) > max(len(letters), 1) else letters
    if named is not None:
        take("choices", named, "lists them", named)
    elif len(letters) > 1 and set(letters) <= set(columns.plain):
        take("choices", letters, "one column each", *letters)
    else:
        written = columns.first(_CHOICES, lambda n: columns.starts(n, "["))
        if written:
            made.notes.append(
                f"the column {written!r} contains lists written as text, which readers do not parse"
            )
        return
    made.closed = True


def _answers(
    columns: _Columns, found: Look, made: Guess, take: Callable[..., None], used: set[str]
) -> None:
    several = _references(columns)
    one = columns.first(_ANSWERS, lambda n: n not in used and n in columns.plain)
    if one is None and several is None:
        one = next((name for name in found.classes if name not in used), None)
    if several is not None:
        take("references", several, "contains all correct answers", several.partition(".")[0])
        made.references = max(len(_listed(_at(row, several))) for row in columns.rows)
    if one is not None:
        if one != "answer":
            why = "its classes have names" if one in found.classes else "by its name"
            take("answer", one, why, one)
        used.add(one)
    if one is None and several is None:
        take(
            "answer", False, "no column looks like answers; name it here, or nothing can be scored"
        )
        return
    made.classes = one in found.classes and not made.closed
    source = one if one is not None else several or ""
    values = [each for row in columns.rows for each in _listed(_at(row, source))]
    names = found.classes.get(source, ())
    made.answers = tuple(
        names[v] if names and isinstance(v, int) and 0 <= v < len(names) else str(v)
        for v in values
        if v not in (None, "")
    )
    if made.closed:
        kind, why = _answer_is(columns, made, values)
        if kind != "text":
            take("answer_is", kind, why)
        elif why:
            made.notes.append(why)


def _answer_is(columns: _Columns, made: Guess, values: Sequence[Any]) -> tuple[str, str]:
    """How the answers speak of the choices."""
    of, _ = made.options["choices"]
    texts = [str(value).strip() for value in values if value not in (None, "")]
    sets = [[str(c) for c in columns.choices(row, of)] for row in columns.rows]
    if texts and all(text in choices for text, choices in zip(texts, sets, strict=False)):
        return "text", ""
    whole = [int(text) for text in texts if text.isdecimal()]
    if texts and len(whole) == len(texts):
        most = max(map(len, sets), default=0)
        if 0 not in whole and most in whole:
            return "number", "counts from 1, judging by the rows inspected"
        return "index", "counts from 0" + ("" if 0 in whole else ", unless from 1 (number)")
    if texts and all(text.strip("().").upper() in tuple(ascii_uppercase) for text in texts):
        return "letter", "names the choice by its letter"
    return "text", "some answers are not among their choices, in the rows inspected"


def _references(columns: _Columns) -> str | None:
    for name in (n for n in columns.lists if n.lower() in _MANY):
        first = next((each for row in columns.rows for each in _listed(row.get(name))), None)
        if isinstance(first, Mapping):
            inner = next((key for key in _INNER if key in first), None)
            if inner is not None:
                return f"{name}.{inner}"
        elif first is not None:
            return name
    return columns.first(_MANY, lambda n: n in columns.plain)


def _folder(root: Path, columns: _Columns, media: Sequence[str]) -> tuple[str, str | None]:
    """(the folder below the root in which the files are, a note where they are not to be found)."""
    paths = [
        path
        for row in columns.rows[:20]
        for name in media
        for cell in _listed(row.get(name))
        if (path := _path(cell)) is not None
    ]
    if not paths:
        return "", None
    absolute = [path for path in paths if path.startswith("/") or "://" in path[:12]]
    if len(absolute) == len(paths):
        inner = all(path.startswith(f"{root.resolve()}/") for path in paths)
        note = f"files have paths such as {paths[0][:80]!r}; make them relative to data.root"
        return "", None if inner else note
    tried = [root, *_below(root)]
    counts = {folder: sum((folder / path).exists() for path in paths[:20]) for folder in tried}
    best = max(tried, key=lambda folder: counts[folder])
    if not counts[best]:
        return (
            "",
            f"files such as {paths[0][:80]!r} were not found under {root}; set `folder`",
        )
    return ("" if best == root else best.relative_to(root).as_posix()), None


def _below(root: Path) -> list[Path]:
    """Folders below, two deep, not too many."""
    try:
        one = [each for each in sorted(root.iterdir())[:200] if each.is_dir()]
        two = [e for folder in one[:50] for e in sorted(folder.iterdir())[:50] if e.is_dir()]
    except OSError:
        return []
    return one + two


class _Columns:
    """The columns of the rows, by what they hold. plain: texts and numbers; lists: lists."""

    def __init__(self, found: Look):
        self.rows = list(found.rows)
        self.names = list(dict.fromkeys(str(name) for row in self.rows for name in row))
        self.plain = [
            n for n in self.names if self._all(n, lambda v: isinstance(v, str | int | float))
        ]
        self.lists = [n for n in self.names if self._all(n, lambda v: isinstance(v, list))]
        self.separated = found.reader == "table"

    def _cells(self, name: str) -> list[Any]:
        return [row[name] for row in self.rows if row.get(name) not in (None, "", [])]

    def _all(self, name: str, of: Callable[[Any], bool]) -> bool:
        cells = self._cells(name)
        return bool(cells) and all(of(cell) for cell in cells)

    def first(self, names: Sequence[str], fits: Callable[[str], object]) -> str | None:
        """The first of the names, in any case, that is a column and fits."""
        for wanted in names:
            for name in self.names:
                if name.lower() == wanted and fits(name):
                    return name
        return None

    def holding(self, kind: Callable[[Any], bool]) -> list[str]:
        """Columns all of whose cells, or of whose lists all items, are of a kind."""
        found = [n for n in self.names if self._all(n, lambda v: all(map(kind, _listed(v))))]
        # A shard's images by their endings are those of its column `image`.
        return (
            ["image"]
            if "image" in found and any(isinstance(c, Image) for c in self._one(found))
            else found
        )

    def _one(self, names: Sequence[str]) -> list[Any]:
        return [cell for name in names for each in self._cells(name)[:1] for cell in _listed(each)]

    def values(self, name: str) -> set[str]:
        return {str(cell) for cell in self._cells(name)}

    def unique(self, name: str) -> bool:
        return name in self.plain and len(self.values(name)) == len(self.rows)

    def barred(self, name: str) -> bool:
        return self.separated and name in self.plain and any("|" in v for v in self.values(name))

    def starts(self, name: str, with_: str) -> bool:
        return name in self.plain and all(v.startswith(with_) for v in self.values(name))

    def choices(self, row: Mapping[str, Any], of: Any) -> list[Any]:
        if isinstance(of, list):
            return [row[name] for name in of if row.get(name) not in (None, "")]
        cell = row.get(of)
        return [c.strip() for c in cell.split("|")] if isinstance(cell, str) else _listed(cell)


def _at(row: Mapping[str, Any], column: str) -> Any:
    """A column, `a.b` of the items of a list."""
    top, _, inner = column.partition(".")
    if column in row or not inner:
        return row.get(column)
    return [each.get(inner) for each in _listed(row.get(top)) if isinstance(each, Mapping)]


def _listed(cell: Any) -> list[Any]:
    return cell if isinstance(cell, list) else [] if cell is None else [cell]


def _first_word(name: str) -> str:
    return re.split(r"[\W_]", name.lower())[0]


def _path(cell: Any) -> str | None:
    if isinstance(cell, Mapping) and not cell.get("bytes"):
        cell = cell.get("path")
    return cell if isinstance(cell, str) and cell and not is_base64(cell) else None


_STARTS = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*")


def _is_picture(cell: Any) -> bool:
    match cell:
        case Image():
            return True
        case bytes():
            return cell.startswith(_STARTS)
        case str():
            return suffixes.of(cell) in suffixes.IMAGES or is_base64(cell)
        case Mapping():
            inner = cell.get("bytes")
            return bool(inner) or (isinstance(cell.get("path"), str) and _is_picture(cell["path"]))
    return False


def _is_film(cell: Any) -> bool:
    return isinstance(cell, str) and suffixes.of(cell) in suffixes.VIDEOS
