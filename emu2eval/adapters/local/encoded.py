"""A prompt as token ids with places for images, and what two of them begin alike with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile

from emu2eval.media import images
from emu2eval.types import Image


@dataclass(frozen=True, slots=True)
class Shown:
    """An image in its place, as `tokens` visual tokens.

    variety: whatever else decides what fills its slots. tiles: the images of a grid, `image` first.
    """

    image: Image
    tokens: int
    variety: str = ""
    tiles: tuple[Image, ...] = ()

    @property
    def key(self) -> str:
        """Equal for what fills slots equally."""
        digests = "+".join(map(images.digest, self.tiles or (self.image,)))
        return f"{digests}/{self.tokens}{self.variety}"


@dataclass(frozen=True)
class Encoded:
    """slots: True where a visual token stands; shown: the images in reading order."""

    ids: tuple[int, ...]
    slots: tuple[bool, ...]
    shown: tuple[Shown, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def head(self, length: int) -> Encoded:
        """The first `length` positions."""
        return Encoded(self.ids[:length], self.slots[:length], self.shown)

    @cached_property
    def signature(self) -> tuple[int | str, ...]:
        """The ids, with an image's key at each of its slots: equal beginnings have equal caches."""
        places = (key for shown in self.shown for key in [shown.key] * shown.tokens)
        return tuple(
            next(places) if slot else i for i, slot in zip(self.ids, self.slots, strict=True)
        )

    @cached_property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """The positions of each image's slots, from the first to one after the last."""
        places = [i for i, slot in enumerate(self.slots) if slot]
        found, start = [], 0
        for shown in self.shown:
            own = places[start : start + shown.tokens]
            start += shown.tokens
            found.append((own[0], own[-1] + 1) if own else (len(self), len(self)))
        return tuple(found)


def common(signatures: Sequence[Sequence[int | str]]) -> int:
    """How many places all the sequences begin with alike."""
    places = zip(*signatures, strict=False)
    return sum(1 for _ in takewhile(lambda place: len(set(place)) == 1, places))
