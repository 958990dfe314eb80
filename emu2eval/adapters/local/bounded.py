"""A cache that holds so many bytes and no more; the least recently used go first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock
from typing import Generic, Protocol, TypeVar


class Sized(Protocol):
    @property
    def nbytes(self) -> int: ...


V = TypeVar("V", bound=Sized)


class Bounded(Generic[V]):
    """Values by key. Several threads may use it at once."""

    def __init__(self, max_bytes: int):
        self.max_bytes = max_bytes
        self.nbytes = 0
        self._kept: OrderedDict[Hashable, V] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Hashable) -> V | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: Hashable, value: V) -> None:
        with self._lock:
            self._drop(key)
            self._kept[key] = value
            self.nbytes += value.nbytes
            while self.nbytes > self.max_bytes:
                self.nbytes -= self._kept.popitem(last=False)[1].nbytes

    def take(self, key: Hashable) -> V | None:
        """The value, which is then forgotten."""
        with self._lock:
            return self._drop(key)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._kept

    def _drop(self, key: Hashable) -> V | None:
        value = self._kept.pop(key, None)
        if value is not None:
            self.nbytes -= value.nbytes
        return value
