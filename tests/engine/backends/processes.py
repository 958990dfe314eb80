"""A site of plain processes: what Ray does, quickly, so that the pool's many cases can be tried."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from multiprocessing.connection import Connection, wait
from typing import Any

from emu2eval.engine.backends.site import Call, ReplicaDied
from emu2eval.errors import UserError

_fork = multiprocessing.get_context("fork")


class _Child:
    def __init__(self, make: Callable[[], Any]):
        self.pipe, theirs = _fork.Pipe()
        self.process = _fork.Process(target=_serve, args=(make, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.open: set[int] = set()
        self.dead = False


def _serve(make: Callable[[], Any], pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    replica = make()

    def answer(number: int, method: str, given: tuple[Any, ...]) -> None:
        try:
            said = number, True, getattr(replica, method)(*given)
        except Exception as error:
            said = number, False, error
        pipe.send(said)

    with ThreadPoolExecutor(16) as threads:
        while True:
            try:
                threads.submit(answer, *pipe.recv())
            except EOFError:
                os._exit(0)


class Processes:
    """make: the replica, called in its process; it is given how many were started before."""

    def __init__(self, make: Callable[[int], Any]):
        self.make = make
        self.started: list[_Child] = []
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self._numbers = count()
        self._child_of: dict[int, _Child] = {}
        self._results: dict[int, tuple[bool, Any]] = {}

    def start(self) -> _Child:
        number = len(self.started)
        child = _Child(lambda: self.make(number))
        self.started.append(child)
        return child

    def call(self, process: _Child, method: str, *given: Any) -> Call:
        number = next(self._numbers)
        self.calls.append((method, given))
        self._child_of[number] = process
        process.open.add(number)
        try:
            process.pipe.send((number, method, given))
        except OSError:
            self._died(process)
        return number

    def wait(self, calls: Sequence[Call], timeout: float | None) -> Sequence[Call]:
        while not (ended := [call for call in calls if call in self._results]):
            pipes = {child.pipe: child for child in self.started if not child.dead}
            ready = wait(list(pipes), timeout)
            if not ready:
                return []
            for pipe in ready:
                child = pipes[pipe]  # type: ignore[index]
                try:
                    number, good, value = child.pipe.recv()
                except (EOFError, OSError):
                    self._died(child)
                else:
                    child.open.discard(number)
                    self._results[number] = good, value
        return ended

    def result(self, call: Call) -> Any:
        good, value = self._results.pop(call)  # type: ignore[call-overload]
        if good:
            return value
        raise value if isinstance(value, (UserError, ReplicaDied)) else ReplicaDied(repr(value))

    def kill(self, process: _Child) -> None:
        process.process.kill()
        self._died(process)

    def close(self) -> None:
        for child in self.started:
            child.process.kill()
            child.process.join()
            child.pipe.close()

    def _died(self, child: _Child) -> None:
        child.dead = True
        for number in child.open:
            self._results[number] = False, ReplicaDied("killed")
        child.open.clear()
