"""What the engine asks a model for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from emu2eval.adapters.base import Adapter
from emu2eval.engine.plan import Held, Planned
from emu2eval.runs.store import RunStore


class Work(Protocol):
    """Requests to be made of one model: a plan, or what a judge is asked."""

    @property
    def adapter(self) -> Adapter: ...
    @property
    def name(self) -> str:
        """Of the model."""
        ...

    def __iter__(self) -> Iterator[Planned]: ...
    def to_ask(self, store: RunStore) -> Iterator[Planned | Held]:
        """Every request in turn."""
        ...

    def check(self, planned: Planned) -> None:
        """Raises PlanError where the model cannot take the request, ImageError for one of its images."""
        ...
