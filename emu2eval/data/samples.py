"""Samples: one split, sorted by id, kept packed so that a large pool fits in memory."""

from __future__ import annotations

import hashlib
import unicodedata
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, overload

import msgspec

from emu2eval.errors import DataError
from emu2eval.types import Image, Sample, Segment, Video

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode
_decode_parts = msgspec.msgpack.Decoder(tuple[msgspec.Raw, ...]).decode
"""The parts of a packed sample, each still packed."""


class Samples(Sequence[Sample]):
    """A split in the order of its ids: random access at the cost of one sample, about 0.5 KB each.

    Raises DataError for an id that appears twice, or for a split without samples.
    """

    def __init__(self, samples: Iterable[Sample], *, where: str, may_be_empty: bool = False):
        packed: list[tuple[str, bytes, int]] = []
        choices: dict[tuple[str, ...], int] = {}
        unread: dict[str, str] = {}
        total = 0
        for sample in samples:
            if sample.unreadable is not None:
                unread[sample.id] = sample.unreadable
            # Classes are the same for all samples, and may be a thousand.
            place = choices.setdefault(sample.choices, len(choices))
            packed.append((sample.id, _pack(sample, _flatten, ()), place))
            # A sum does not depend on the order of the rows in the file.
            named = sample.id.encode() + b"\0" + _pack(sample, _name, sample.choices)
            total += int.from_bytes(hashlib.sha256(named).digest(), "big")
        if not packed and not may_be_empty:
            raise DataError("the split has no samples", where=where)
        packed.sort(key=lambda pair: pair[0])
        for (left, *_), (right, *_) in pairwise(packed):
            if left == right:
                raise DataError(
                    f"the id {left!r} appears twice",
                    where=where,
                    hint="ids identify samples when a run is continued; make each one unique",
                )
        self.where = where
        self.ids = [sample_id for sample_id, _, _ in packed]
        self.unreadable = {at: unread[name] for at, name in enumerate(self.ids) if name in unread}
        """Position -> why the sample there cannot be asked."""
        self._packed = [data for _, data, _ in packed]
        self._choices = list(choices)
        self._places = array("I", (place for *_, place in packed))
        self.digest = f"{total % 2**256:064x}"
        """The identity of the data: 64 hex digits, whatever the order of rows or the folder.

        Images count by file name here; their bytes count in the key of each request.
        """

    @classmethod
    def none(cls) -> Samples:
        """No samples: for checks before any data is available."""
        return cls((), where="no data", may_be_empty=True)

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        choices = self._choices[self._places[index]]
        return _unpack(self.ids[index], self._packed[index], choices)

    def __iter__(self) -> Iterator[Sample]:
        for sample_id, data, place in zip(self.ids, self._packed, self._places, strict=True):
            yield _unpack(sample_id, data, self._choices[place])

    def images(self, index: int, *, answer: bool = True) -> list[Image]:
        """The images that a prompt may show of a sample: its own, those of its videos, and its answer's."""
        _, packed, reply, *_ = _decode_parts(self._packed[index])
        parts = [*_decode(packed), *([_decode(reply)] if answer else [])]
        shown = [_restore(part) for part in parts]
        found: list[Image] = []
        for part in shown:
            if isinstance(part, Image):
                found.append(part)
            elif isinstance(part, Video):
                found += part.frames
        return found

    def references(self, index: int) -> tuple[str | Image, ...]:
        """Those of a sample, at a third of the cost of all of it."""
        _, _, _, packed, *_ = _decode_parts(self._packed[index])
        return tuple(_restore(part) for part in _decode(packed))

    def subset(self, indices: Iterable[int]) -> Samples:
        """Only the samples at these positions, with its own digest."""
        return Samples((self[i] for i in indices), where=self.where)

    def readable(self) -> Samples:
        """Those that can be asked and shown: itself, where all can."""
        if not self.unreadable:
            return self
        return self.subset(i for i in range(len(self)) if i not in self.unreadable)

    def position(self, sample_id: str) -> int | None:
        """The position of the id, or None."""
        at = bisect_left(self.ids, sample_id)
        return at if at < len(self.ids) and self.ids[at] == sample_id else None


def _pack(sample: Sample, of: Callable[[Any], Any], choices: Sequence[str]) -> bytes:
    rare: list[Any] = [sample.alternatives, sample.numbers, sample.unreadable]
    while rare and not rare[-1]:
        rare.pop()
    return _encode(
        (
            sample.fields,
            [of(p) for p in sample.images],
            of(sample.answer),
            [of(r) for r in sample.references],
            choices,
            sample.cluster,
            sample.groups,
            *rare,
        )
    )


def _unpack(sample_id: str, data: bytes, choices: tuple[str, ...]) -> Sample:
    fields, images, answer, references, _, cluster, groups, *rest = _decode(data)
    # By position, and no more than is there: a prompt of 8 shots unpacks nine.
    return Sample(
        sample_id,
        fields,
        tuple(map(_restore, images)),
        _restore(answer),
        tuple(map(_restore, references)),
        choices,
        cluster,
        {k: tuple(v) if isinstance(v, list) else v for k, v in groups.items()}
        if groups
        else groups,
        {name: tuple(texts) for name, texts in rest[0].items()} if rest else {},
        tuple(rest[1]) if len(rest) > 1 else (),
        rest[2] if len(rest) > 2 else None,
    )


def _flatten(value: str | Image | Video | None) -> Any:
    """Texts stay; an image becomes [path or bytes], [path, member] or, of a video,
    [path, i, n, segment].

    A video of such images becomes a list of them, one whose frames are spread over one file
    {"path", "count", "segment"}.
    """
    if value is None or type(value) is str:
        return value
    if isinstance(value, Image):
        inner: Sequence[Any] = () if value.member is None else (value.member,)
        if value.frame is not None:
            inner = (*value.frame, _bounds(value.segment))
        return [value.path if value.path is not None else value.data, *inner]
    if isinstance(value, Video):
        if source := value.source:
            piece = {"segment": _bounds(source[2])} if source[2] else {}
            return {"path": source[0], "count": source[1], **piece}
        return [_flatten(frame) for frame in value.frames]
    return value


def _name(value: str | Image | Video | None) -> Any:
    """As `_flatten`, with a file's name in place of its whole path."""
    if value is None or type(value) is str:  # most values of most samples
        return value
    flat = _flatten(value)
    if isinstance(value, Image) and value.path is not None:
        flat[0] = _file_name(value.path)
    elif isinstance(flat, dict):
        flat["path"] = _file_name(flat["path"])
    elif isinstance(value, Video):
        return [_name(frame) for frame in value.frames]
    return flat


def _file_name(path: str) -> str:
    """Of a path; however a disk writes its accents, it is the same name."""
    name = path.rpartition("/")[2]
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def _restore(value: Any) -> Any:
    if type(value) is str:
        return value
    if isinstance(value, dict):
        return Video.sampled(value["path"], value["count"], _segment(value.get("segment")))
    if not isinstance(value, list):
        return value
    if value and isinstance(value[0], list):
        return Video(tuple(_restore(frame) for frame in value))
    content, *inner = value
    if isinstance(content, bytes):
        return Image(data=content)
    if len(inner) == 3:
        return Image(content, frame=(inner[0], inner[1]), segment=_segment(inner[2]))
    return Image(content, member=inner[0] if inner else None)


def _bounds(segment: Segment | None) -> Any:
    return None if segment is None else [segment.start, segment.end, segment.in_frames]


def _segment(bounds: Any) -> Segment | None:
    return None if bounds is None else Segment(*bounds)
