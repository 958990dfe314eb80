"""Where replicas are started: what the pool needs of Ray, and a test can give it with plain processes."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Protocol

Call = Hashable
"""A call that is under way on a replica."""


class ReplicaDied(Exception):
    """The process that was called is gone, and with it what it was asked."""


class Site(Protocol):
    """Processes that each hold a `Replica`, on this machine or on many."""

    def start(self) -> Any:
        """A new process, by a handle; never waits. Until there is room for it, its first call waits."""

    def call(self, process: Any, method: str, *given: Any) -> Call:
        """Calls a method of its replica; never waits."""

    def wait(self, calls: Sequence[Call], timeout: float | None) -> Sequence[Call]:
        """Those that have ended, at least one unless the seconds are over."""

    def result(self, call: Call) -> Any:
        """What an ended call returned. Raises what it raised, or ReplicaDied."""

    def kill(self, process: Any) -> None:
        """Ends a process at once; all of its calls then raise ReplicaDied."""

    def close(self) -> None:
        """Ends what it started."""
