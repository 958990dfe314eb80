"""A prompt as pieces of ids that many prompts share, put together when it is asked and not to be counted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, takewhile

from emu2eval.adapters.local.encoded import Encoded, Shown


@dataclass(frozen=True, slots=True)
class Stretch:
    """Ids that stand together. slots: True where a visual token stands; None = nowhere. places: how many."""

    ids: tuple[int, ...]
    slots: tuple[bool, ...] | None = None
    places: int = 0

    @classmethod
    def of(cls, ids: Iterable[int], slot: int) -> Stretch:
        """slot: the id that an image's embedding replaces."""
        ids = tuple(ids)
        places = ids.count(slot)
        if not places:
            return cls(ids)
        # One object for all of its places.
        ids = tuple(slot if i == slot else i for i in ids)
        return cls(ids, tuple(i == slot for i in ids), places)

    @property
    def nbytes(self) -> int:
        """Roughly: an id is an object of its own, a place is not."""
        return 200 + 16 * len(self.ids) + 28 * (len(self.ids) - self.places)

    def until(self, stop: int) -> Stretch:
        """The first ids up to `stop`."""
        if self.slots is None:
            return Stretch(self.ids[:stop])
        slots = self.slots[:stop]
        return Stretch(self.ids[:stop], slots, sum(slots))


@dataclass(frozen=True)
class Pieces:
    """shown: the images in reading order."""

    parts: tuple[Stretch, ...]
    shown: tuple[Shown, ...] = ()

    @classmethod
    def whole(cls, encoded: Encoded) -> Pieces:
        """A prompt of one piece."""
        return cls((Stretch(encoded.ids, encoded.slots, sum(encoded.slots)),), encoded.shown)

    def __len__(self) -> int:
        return self._length

    @cached_property
    def _length(self) -> int:
        return sum(len(piece.ids) for piece in self.parts)

    @cached_property
    def places(self) -> int:
        """How many visual tokens stand in it."""
        return sum(piece.places for piece in self.parts)

    @cached_property
    def encoded(self) -> Encoded:
        slots = (piece.slots or (False,) * len(piece.ids) for piece in self.parts)
        return Encoded(
            tuple(chain.from_iterable(piece.ids for piece in self.parts)),
            tuple(chain.from_iterable(slots)),
            self.shown,
        )

    def head(self, length: int) -> Pieces:
        """The first `length` positions."""
        kept: list[Stretch] = []
        for piece in self.parts:
            if length <= 0:
                break
            kept.append(piece if len(piece.ids) <= length else piece.until(length))
            length -= len(piece.ids)
        return Pieces(tuple(kept), self.shown)

    def after(self, start: int) -> tuple[int, ...]:
        """The ids from `start` on."""
        found: list[int] = []
        at = 0
        for piece in self.parts:
            if at + len(piece.ids) > start:
                found += piece.ids[max(0, start - at) :]
            at += len(piece.ids)
        return tuple(found)

    def tail(self, most: int) -> tuple[int, ...]:
        """The last ids, at most so many."""
        return self.after(max(0, len(self) - most))

    def common(self, other: Pieces) -> int:
        """How many ids the two begin alike with."""
        alike = 0
        for own, its in zip(self.parts, other.parts, strict=False):
            if own.ids is not its.ids and own.ids != its.ids:
                break
            alike += len(own.ids)
        pairs = zip(self.after(alike), other.after(alike), strict=False)
        return alike + sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
