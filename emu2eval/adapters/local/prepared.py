"""Images made ready for their encoder ahead of time: each once, by whoever comes first, within bounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Condition, Lock
from typing import Any

from emu2eval.adapters.local.encoded import Shown
from emu2eval.errors import UserError
from emu2eval.media import images

AHEAD_BYTES = 256 << 20
"""What images that wait for their encoder may take; above it nothing more is begun."""
DECODING_BYTES = 1 << 30
"""What images that are being decoded may take together; a larger one is decoded alone."""
FORGOTTEN_AFTER = 64
"""Batches after which an image that nobody asked for no longer takes room."""
_COPIES = 3
"""Of an image's pixels at once: as decoded, as RGB, as resized."""


@dataclass(frozen=True, slots=True)
class Arrays:
    """An image as its encoder takes it, on the CPU, by name."""

    values: dict[str, Any]

    @property
    def nbytes(self) -> int:
        return sum(getattr(value, "nbytes", 64) for value in self.values.values())


class Prepared:
    """`begin` on any thread, `take` on the encoder's. make: opens an image and makes its arrays."""

    def __init__(self, make: Callable[[Shown], Arrays]):
        self.make = make
        self.nbytes = 0
        self._batch = 0
        self._ready: dict[str, tuple[int, Arrays]] = {}
        self._making: dict[str, Future[Arrays | None]] = {}
        self._lock = Lock()
        self._room = Room(DECODING_BYTES)

    def begin(self, shown: Shown) -> None:
        """Makes an image ready, unless it is, or will be, or there is no room. Raises what `make` does."""
        key = shown.key
        with self._lock:
            if key in self._ready or key in self._making or not self._has_room():
                return
            promised = self._making[key] = Future()
        arrays = None
        try:
            with self._room.taken(pixels_of(shown) * 3 * _COPIES):
                arrays = self.make(shown)
        finally:
            with self._lock:
                del self._making[key]
                if arrays is not None:
                    self._ready[key] = (self._batch, arrays)
                    self.nbytes += arrays.nbytes
            promised.set_result(arrays)

    def take(self, shown: Shown) -> Arrays:
        """The arrays, which are then forgotten here; waited for where another thread is at them.

        Raises what `make` does.
        """
        with self._lock:
            promised = self._making.get(shown.key)
        if promised is not None:
            promised.result()
        return self.forget(shown) or self.make(shown)

    def forget(self, shown: Shown) -> Arrays | None:
        """Frees what is there of an image that is needed no more; returns it."""
        with self._lock:
            _, arrays = self._ready.pop(shown.key, (0, None))
            self.nbytes -= 0 if arrays is None else arrays.nbytes
        return arrays

    def next_batch(self) -> None:
        self._batch += 1

    def _has_room(self) -> bool:
        if self.nbytes >= AHEAD_BYTES:
            old = self._batch - FORGOTTEN_AFTER
            for key in [key for key, (batch, _) in self._ready.items() if batch < old]:
                self.nbytes -= self._ready.pop(key)[1].nbytes
        return self.nbytes < AHEAD_BYTES


class Room:
    """So many bytes for those who work at once; who wants more than all of it works alone."""

    def __init__(self, size: int):
        self.size = size
        self.used = 0
        self._changed = Condition()

    @contextmanager
    def taken(self, count: int) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self.used or self.used + count <= self.size)
            self.used += count
        try:
            yield
        finally:
            with self._changed:
                self.used -= count
                self._changed.notify_all()


def pixels_of(shown: Shown) -> int:
    """Of its largest image; 0 where it cannot be read, which decoding tells."""
    with suppress(UserError):
        sizes = (images.info(image).upright for image in shown.tiles or (shown.image,))
        return max(width * height for width, height in sizes)
    return 0
