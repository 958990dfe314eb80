"""A user's own data: the rows of any source as samples, by the options that all readers share."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from string import ascii_uppercase

import msgspec

from emu2eval.data.columns import RowOptions, listed, named
from emu2eval.data.names import occurrence
from emu2eval.data.options import option_fields
from emu2eval.data.partition import Partition, identity, media_folder, shown
from emu2eval.data.rows import DataRow, RowSource
from emu2eval.data.vqa import most_common
from emu2eval.errors import DataError, ImageError
from emu2eval.types import Image, Sample

_ANSWER, _ID = "answer", "id"
"""The columns of answers and ids where none is named."""

_Answers = tuple[str | Image, ...]


def samples(source: RowSource, options: RowOptions, root: Path) -> Iterator[Sample]:
    """Every row of the split as a sample. Raises DataError with the file and the row that does not fit."""
    folder = media_folder(root, options)
    reading = _Reading(source, options, folder)
    seen: Counter[str] = Counter()
    for row in Partition(source, options, folder).rows():
        sample = reading.sample(row)
        if not sample.id:
            name = reading.digest(sample, row.where)
            seen[name] += 1
            sample = replace(sample, id=occurrence(name, seen[name]))
        yield sample


class _Reading:
    """What the options make of rows."""

    def __init__(self, source: RowSource, options: RowOptions, folder: Path):
        self.options = options
        self.folder = folder
        self.fields = None if options.fields is None else named(options.fields)
        self.media = {*listed(options.images), *listed(options.videos)}
        self.groups = named(options.groups)
        self.references = listed(options.references)
        answer = options.answer if options.answer is not None else _ANSWER
        self.classes = tuple(source.classes(answer)) if answer else ()

    def sample(self, row: DataRow) -> Sample:
        """With an empty id where the data has none."""
        options = self.options
        choices = self.choices(row)
        pictures, videos = shown(row, options, self.folder)
        given = self.given(row, choices)
        reply = self.reply(row, given, choices)
        fields = self.texts(row)
        if 0 < len(choices) <= len(ascii_uppercase):
            fields = fields | option_fields(choices) | (fields if self.fields is not None else {})
        return Sample(
            id=self.id(row),
            fields=fields,
            images=(*pictures, *videos),
            answer=reply,
            references=() if options.references is False else given,
            choices=choices,
            cluster=self.cluster(row, (*pictures, *videos)),
            groups={n: label for n, c in self.groups.items() if (label := row.label(c, "groups"))},
            alternatives={
                name: tuple(row.texts(column, "alternatives"))
                for name, column in options.alternatives.items()
            },
        )

    def id(self, row: DataRow) -> str:
        if self.options.id:
            return row.name(self.options.id)
        return row.name(_ID) if self.options.id is None and _ID in row.cells else ""

    def digest(self, sample: Sample, where: str) -> str:
        """A name made of what the sample holds, 16 hex digits, for rows without an id."""
        try:
            # The first image has been read for the cluster, where that is its digest.
            known = sample.cluster if self.options.cluster is None else None
            first, rest = sample.images[:1], sample.images[1:]
            named = [known or identity(each, self.folder) for each in first]
            named += [identity(each, self.folder) for each in rest]
            replies = [
                identity(each, self.folder) if isinstance(each, Image) else each
                for each in (sample.answer, *sample.references)
            ]
        except ImageError as error:
            raise DataError(f"the row has no id, and {error.what}", where=where) from None
        content = [sorted(sample.fields.items()), named, replies, sample.choices]
        return hashlib.sha256(msgspec.msgpack.encode(content)).hexdigest()[:16]

    def texts(self, row: DataRow) -> dict[str, str]:
        if self.fields is None:
            return {n: text for n, text in row.plain().items() if n not in self.media}
        return {name: row.text(column, "fields") for name, column in self.fields.items()}

    def choices(self, row: DataRow) -> tuple[str, ...]:
        columns = self.options.choices
        if columns is None:
            return self.classes
        if isinstance(columns, str):
            return tuple(row.texts(columns, "choices"))
        found = [row.text(column, "choices") for column in listed(columns)]
        while found and not found[-1].strip():
            found.pop()
        if not all(each.strip() for each in found):
            raise DataError("a choice is empty, but a later one is not", where=row.where)
        return tuple(found)

    def given(self, row: DataRow, choices: Sequence[str]) -> _Answers:
        """All that the columns of references hold; without such columns, that of the answer."""
        if self.references:
            return tuple(
                each for c in self.references for each in self.read(row, c, "references", choices)
            )
        answer = self.options.answer
        if answer is False:
            return ()
        return self.read(row, answer or _ANSWER, "answer", choices)

    def reply(self, row: DataRow, given: _Answers, choices: Sequence[str]) -> str | Image | None:
        """What a demonstration shows."""
        answer = self.options.answer
        if answer is False:
            return None
        if self.references and (answer or _ANSWER in row.cells):
            given = self.read(row, answer or _ANSWER, "answer", choices)
        if given and isinstance(given[0], Image):
            return given[0]
        return most_common([text for text in given if isinstance(text, str)]) or None

    def read(self, row: DataRow, column: str, option: str, choices: Sequence[str]) -> _Answers:
        """Answers as they are shown."""
        kind = self.options.answer_is
        if kind == "image" and option == "answer":
            return tuple(row.images(column, option, self.folder))
        split = option != "answer"
        texts = row.texts(column, option, split=split)
        if kind not in ("text", "image"):
            texts = [_chosen(text, kind, choices, column, row.where) for text in texts]
        if self.options.answer_as == "letter":
            texts = [_letter(text, choices, column, row.where) for text in texts]
        return tuple(texts)

    def cluster(self, row: DataRow, pictures: Sequence[object]) -> str | None:
        column = self.options.cluster
        if isinstance(column, str):
            return row.label(column, "cluster")
        if column is False or not pictures:
            return None
        try:
            return identity(pictures[0], self.folder)
        except ImageError:
            return None  # told when the image is asked for


def _chosen(text: str, kind: str, choices: Sequence[str], column: str, where: str) -> str:
    """The choice that an index, a number or a letter stands for."""
    if kind == "letter":
        bare = text.strip().strip("().[]:").upper()
        place = ascii_uppercase.find(bare) if len(bare) == 1 else -1
    else:
        whole = text.removesuffix(".0")
        place = int(whole) - (kind == "number") if whole.isdecimal() and len(whole) < 10 else -1
    if not 0 <= place < len(choices):
        raise DataError(
            f"the column {column!r} contains {text[:60]!r}, but `answer_is: {kind}` needs the "
            "position of one "
            f"of the {len(choices)} choices",
            where=where,
            hint=None if choices else "name the column or columns of the `choices`",
        )
    return choices[place]


def _letter(text: str, choices: Sequence[str], column: str, where: str) -> str:
    if text in choices[: len(ascii_uppercase)]:
        return ascii_uppercase[list(choices).index(text)]
    raise DataError(
        f"the column {column!r} contains {text[:60]!r}, which is not one of the {len(choices)} lettered "
        "choices",
        where=where,
        hint="if the column contains the choice's position, set `answer_is: letter` (or index, number)",
    )
