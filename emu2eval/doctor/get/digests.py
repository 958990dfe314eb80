"""Digests of what is brought, computed while it comes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

PIECE = 1 << 20


class Digests:
    """SHA-256 of what is brought, and the digest that somebody else gave for it, of whatever kind.

    wanted: `sha256:…`, `sha1:…`, `md5:…`, or `git:…`, which the hub gives for small files and which begins
    with the size.
    """

    def __init__(self, wanted: str | None, size: int | None):
        self._wanted = wanted
        self._sha256 = hashlib.sha256()
        kind = (wanted or "").partition(":")[0]
        self._other = None
        if kind == "git" and size is not None:
            self._other = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        elif kind in ("sha1", "md5"):
            self._other = hashlib.new(kind, usedforsecurity=False)
        self.size = 0

    def add(self, data: bytes) -> None:
        self._sha256.update(data)
        if self._other is not None:
            self._other.update(data)
        self.size += len(data)

    def add_file(self, path: Path, stopped: Callable[[], None]) -> None:
        """What is there already of a file."""
        with path.open("rb") as file:
            for data in iter(lambda: file.read(PIECE), b""):
                stopped()
                self.add(data)

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()

    def wrong(self) -> str | None:
        """The digest that it has instead of the wanted one, with its kind; None = nothing is wrong."""
        kind, _, digits = (self._wanted or "").partition(":")
        if not digits or (kind == "git" and self._other is None):
            return None
        found = self._other.hexdigest() if self._other is not None else self.sha256
        return None if found == digits else f"{kind}:{found}"
