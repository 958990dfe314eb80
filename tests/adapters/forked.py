"""Ranks that are forked off the tests' process, which has imported all that they need: they start at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import Pipe
from pathlib import Path
from typing import IO

import pytest

from emu2eval.adapters.local import rank_process, team


class Forked:
    """Of `subprocess.Popen`, what a team needs."""

    def __init__(self, pid: int):
        self.pid = pid
        self.code: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        until = None if timeout is None else time.monotonic() + timeout
        while self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
            elif until is not None and time.monotonic() > until:
                raise subprocess.TimeoutExpired("rank", timeout or 0.0)
            else:
                time.sleep(0.005)
        return self.code

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


AS_PROGRAMS = team.Team._started
"""How ranks are started where nothing is forked."""


def _started(self: team.Team, number: int) -> team._Process:
    here, there = Pipe()
    said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (the team closes it)
    asking = os.getpid()
    pid = os.fork()
    if not pid:
        try:
            for rank in self._ranks:  # a new program would not have them
                rank.connection.close()
            here.close()
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
            os.environ.update(team._environment(number, self.count))
            sys.argv = ["rank", str(there.fileno()), str(asking)]
            rank_process.main()
        finally:
            os._exit(3)
    there.close()
    return team._Process(number, Forked(pid), here, said)  # type: ignore[arg-type]


@contextmanager
def forking() -> Iterator[None]:
    """Within it, teams fork their ranks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(team.Team, "_started", _started)
        patch.setattr(team, "GRACE", 0.2)
        yield


def alive(pid: int) -> bool:
    """Whether there is such a process, which has not ended and waits for no one to notice."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
        return state not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
