"""Checks requests while the weights of a model are read, so that one it cannot take is reported by then."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Thread

from emu2eval.adapters.base import Adapter
from emu2eval.engine.plan import Planned
from emu2eval.engine.work import Work
from emu2eval.errors import ImageError
from emu2eval.runs.store import RunStore


class CheckedAhead:
    """Requests that were checked ahead of their turn, by their slots."""

    def __init__(self, work: Work, store: RunStore):
        self._work = work
        self._store = store
        self._slots: set[int] = set()
        self._problem: Exception | None = None
        self._enough = Event()

    def __contains__(self, slot: int) -> bool:
        return slot in self._slots

    def __len__(self) -> int:
        return len(self._slots)

    def during(self, load: Callable[[], None]) -> None:
        """Calls `load`, and checks requests until it has returned. Raises what it raises, else the PlanError
        of the first request that the model cannot take."""
        if type(self._work.adapter).load is Adapter.load:
            load()
            return
        checks = Thread(target=self._check, name="emu2eval checks", daemon=True)
        checks.start()
        try:
            load()
        finally:
            self._enough.set()
            checks.join()
        if self._problem is not None:
            raise self._problem

    def _check(self) -> None:
        try:
            for planned in self._work.to_ask(self._store):
                if self._enough.is_set():
                    return
                if not isinstance(planned, Planned):
                    continue
                if self._store.has(planned.slot, planned.request.key):
                    continue
                try:
                    self._work.check(planned)
                except ImageError:
                    continue  # costs its own question, when its turn comes
                self._slots.add(planned.slot)
        except Exception as error:
            self._problem = error
