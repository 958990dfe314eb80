"""Which rows belong to a split: those that a column says, or those that a seed draws.

A draw never parts what belongs together: rows that share an image or a video, by its path or by its bytes,
or a value of the column `by`. It depends on neither the order of the rows nor their number in a file.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from stat import S_ISREG

import msgspec

from emu2eval.data.columns import RowOptions, listed
from emu2eval.data.embedded import below
from emu2eval.data.paths import inside
from emu2eval.data.rows import DataRow, RowSource, same
from emu2eval.errors import DataError, ImageError, UnknownName
from emu2eval.media import images
from emu2eval.types import Image, Segment, Video

_SHOWN = 12


def media_folder(root: Path, options: RowOptions) -> Path:
    """Where paths of images and videos start."""
    return inside(root, options.folder, where="folder") if options.folder else root


def shown(row: DataRow, options: RowOptions, folder: Path) -> tuple[list[Image], list[Video]]:
    """The images and the videos of a row. Raises DataError."""
    pictures = [
        each for column in listed(options.images) for each in row.images(column, "images", folder)
    ]
    paths = [path for column in listed(options.videos) for path in row.paths(column, "videos")]
    segment = _segment(row, options.segment) if options.segment and paths else None
    videos = [
        Video.sampled(str(below(folder, path, row.where)), options.frames, segment)
        for path in paths
    ]
    return pictures, videos


def _segment(row: DataRow, columns: tuple[str, str]) -> Segment:
    said = [row.text(column, "segment") for column in columns]
    try:
        start, end = map(float, said)
    except ValueError:
        start, end = 0.0, 0.0
    if not 0 <= start < end < float("inf"):
        raise DataError(
            f"{' to '.join(map(repr, said))} is not a part of a video: expected start and end in seconds",
            where=row.where,
        )
    return Segment(start, end)


def identity(media: object, folder: Path) -> str:
    """What tells an image or a video apart: its path below the folder, or the digest of its bytes.

    Raises ImageError where the bytes cannot be read.
    """
    if isinstance(media, Video):
        media = media.frames[0]
    assert isinstance(media, Image)
    if media.path is not None and media.member is None:
        return media.path.removeprefix(f"{folder}/")
    return hashlib.sha256(images.read(media)).hexdigest()


class Partition:
    """The rows of one split of a source."""

    def __init__(self, source: RowSource, options: RowOptions, folder: Path):
        self.source = source
        self.options = options
        self.folder = folder

    def rows(self) -> Iterator[DataRow]:
        """Raises DataError where a condition fits no row, UnknownName for a split that is not drawn."""
        split = self.options.split
        if split.column is not None:
            yield from self._by_column(split.column)
        elif split.draw:
            if split.name not in (known := [*split.draw, split.rest]):
                raise UnknownName(
                    "split",
                    split.name,
                    known,
                    hint="`draw` lists the splits to draw; `rest` names the one that gets the "
                    "remaining samples",
                    of="the draw",
                )
            chosen = self._drawn
            for number, row in enumerate(self._wanted()):
                if chosen[number] == split.name:
                    yield row
        else:
            yield from self._wanted()

    def _wanted(self) -> Iterator[DataRow]:
        """Those that fit `where`."""
        where, found = self.options.where, False
        for row in self.source.rows():
            if all(same(row.cell(column, "where"), value) for column, value in where.items()):
                found = True
                yield row
        if where and not found:
            raise DataError(f"no row has {where}")

    def _by_column(self, column: str) -> Iterator[DataRow]:
        name = self.options.split.name
        seen: dict[str, None] = {}
        found = False
        for row in self._wanted():
            cell = row.cell(column, "split.column")
            if same(cell, name):
                found = True
                yield row
            elif not found and len(seen) <= _SHOWN:
                seen[str(cell)[:40]] = None
        if not found:
            there = ", ".join(list(seen)[:_SHOWN]) + (", …" if len(seen) > _SHOWN else "")
            raise DataError(
                f"no row has {name!r} in the column {column!r}; available: {there}",
                hint=f"if it has another name there: `splits: {{{name}: {{split: {{column: {column}, "
                f"name: …}}}}}}`",
            )

    @cached_property
    def _drawn(self) -> list[str]:
        """The split of each row, in their order."""
        split = self.options.split
        groups = _Groups()
        members: list[str] = []
        strata: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for row in self._wanted():
            tokens = self._tokens(row)
            groups.join(tokens)
            members.append(tokens[0])
            if split.stratify is not None:
                strata[tokens[0]][row.label(split.stratify, "split.stratify") or ""] += 1
        groups.join_equal_files(self.folder)
        keys = groups.keys()
        counted: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for token, labels in strata.items():
            counted[keys[token]] += labels
        ordered = _ordered(set(map(keys.__getitem__, members)), counted, split.seed)
        side = dict.fromkeys(ordered, split.rest)
        start, share = 0, 0.0
        for name, part in split.draw.items():
            share += part
            end = int(share * len(ordered) + 0.5)
            side.update((key, name) for key in ordered[start:end])
            start = end
        return [side[keys[token]] for token in members]

    def _tokens(self, row: DataRow) -> list[str]:
        """What ties a row to others; at least one."""
        pictures, videos = shown(row, self.options, self.folder)
        try:
            tokens = [f"media {identity(each, self.folder)}" for each in (*pictures, *videos)]
        except ImageError as error:
            raise DataError(f"the split cannot be drawn: {error.what}", where=row.where) from None
        by = self.options.split.by
        label = row.label(by, "split.by") if by is not None else None
        if label is not None:
            tokens.append(f"by {label}")
        if not tokens:
            content = msgspec.msgpack.encode(sorted(row.plain().items()))
            tokens = [f"row {hashlib.sha256(content).hexdigest()}"]
        return tokens


def _ordered(keys: set[str], strata: dict[str, Counter[str]], seed: int) -> list[str]:
    """The groups as they are dealt: at random, and from every stratum evenly."""
    by_chance = sorted(keys, key=lambda key: hashlib.sha256(f"{seed}\0{key}".encode()).digest())
    if not strata:
        return by_chance
    label = {key: min(strata[key].items(), key=lambda pair: (-pair[1], pair[0]))[0] for key in keys}
    sizes = Counter(label.values())
    dealt: Counter[str] = Counter()
    place = {}
    for key in by_chance:
        place[key] = (dealt[label[key]] + 0.5) / sizes[label[key]]
        dealt[label[key]] += 1
    return sorted(by_chance, key=place.__getitem__)


class _Groups:
    """Tokens that belong together (union-find)."""

    def __init__(self) -> None:
        self.parent: dict[str, str] = {}

    def join(self, tokens: list[str]) -> None:
        first = self._top(tokens[0])
        for token in tokens[1:]:
            other = self._top(token)
            low, high = min(first, other), max(first, other)
            self.parent[high] = low
            first = low

    def _top(self, token: str) -> str:
        path = []
        while (above := self.parent.setdefault(token, token)) != token:
            path.append(token)
            token = above
        for each in path:
            self.parent[each] = token
        return token

    def join_equal_files(self, folder: Path) -> None:
        """Files with the same bytes are one: only those of one size are read for it."""
        by_size: defaultdict[int, list[str]] = defaultdict(list)
        for token in self.parent:
            if not token.startswith("media "):
                continue
            try:
                found = (folder / token.removeprefix("media ")).stat()
            except (OSError, ValueError):
                continue  # embedded, or told when it is asked for
            if S_ISREG(found.st_mode):
                by_size[found.st_size].append(token)
        for tokens in by_size.values():
            if len(tokens) < 2:
                continue
            same_bytes: defaultdict[str, list[str]] = defaultdict(list)
            for token in tokens:
                try:
                    with (folder / token.removeprefix("media ")).open("rb") as file:
                        same_bytes[hashlib.file_digest(file, "sha256").hexdigest()].append(token)
                except OSError:
                    continue
            for equal in same_bytes.values():
                self.join(equal)

    def keys(self) -> dict[str, str]:
        """The least token of each token's group."""
        return {token: self._top(token) for token in list(self.parent)}
