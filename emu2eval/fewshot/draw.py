"""Drawing by a keyed hash: any draw is computed alone, at a cost that does not grow with the pool.

The draws of a query depend on (seed, trial, query id, draw number) and on nothing else, so they are
the same for any limit, order, batch or number of workers, and k = 4 is a subset of k = 8.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b

from emu2eval.media import images
from emu2eval.types import Image, Sample, Video

_PATIENCE = 256


def keyed(*key: object) -> int:
    """A uniform integer below 2**128 from the key. Modulo a pool's size its bias is below 2**-90."""
    # The unit separator keeps ("a", "bc") and ("ab", "c") apart.
    text = "\x1f".join(map(str, key)).encode()
    return int.from_bytes(blake2b(text, digest_size=16).digest(), "big")


def permutation(size: int, *key: object) -> Iterator[int]:
    """0 … size-1 in an order drawn by the key, one at a time.

    The first few cost the same whatever the size. Only when 256 draws in a row hit what was drawn
    before, and so most is drawn, the rest is sorted by its own keys.
    """
    drawn: set[int] = set()
    number = repeats = 0
    while len(drawn) < size and repeats < _PATIENCE:
        index = keyed(*key, number) % size
        number += 1
        if index in drawn:
            repeats += 1
            continue
        repeats = 0
        drawn.add(index)
        yield index
    yield from sorted(
        (i for i in range(size) if i not in drawn), key=lambda i: keyed(*key, "rest", i)
    )


class Exclusion:
    """What a query may not be shown: its own id, and any sample that shares an image with it."""

    def __init__(self, query: Sample):
        self.id = query.id
        self.digests = _digests(query)

    def refuses(self, candidate: Sample) -> bool:
        if candidate.id == self.id:
            return True
        return bool(self.digests) and not self.digests.isdisjoint(_digests(candidate))


def _digests(sample: Sample) -> set[str]:
    found = set()
    for item in (*sample.images, sample.answer):
        if isinstance(item, Image):
            found.add(images.digest(item))
        elif isinstance(item, Video):
            found.update(images.digest(frame) for frame in item.frames)
    return found
