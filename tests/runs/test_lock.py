"""One process at a time in a folder, with the system's locks and without."""

from __future__ import annotations

import builtins
import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from emu2eval.runs import lock
from emu2eval.runs.lock import DEAD, alone, take

HELD = f"{lock.NAME}.held"


@pytest.fixture(params=["flock", "no flock", "no fcntl"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The system's locks, a file system without them, and a Python without fcntl."""
    fcntl = pytest.importorskip("fcntl")
    kind: str = request.param
    if kind == "no flock":

        def refuse(*_: Any) -> None:
            raise OSError(errno.ENOSYS, "Function not implemented")

        monkeypatch.setattr(fcntl, "flock", refuse)
    if kind == "no fcntl":
        own = builtins.__import__

        def without(name: str, *rest: Any) -> Any:
            if name == "fcntl":
                raise ImportError(name)
            return own(name, *rest)

        monkeypatch.setattr(builtins, "__import__", without)
    return kind


@pytest.mark.usefixtures("system")
def test_a_lock_is_held_once_and_given_back(tmp_path: Path) -> None:
    first = take(tmp_path)
    assert first is not None
    assert take(tmp_path) is None
    first.close()
    with alone(tmp_path):
        assert take(tmp_path) is None
    again = take(tmp_path)
    assert again is not None
    again.close()


@pytest.mark.parametrize("system", ["no flock"], indirect=True)
def test_a_killed_holder_holds_nothing(tmp_path: Path, system: str) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    holder = {"host": lock.socket.gethostname(), "process": child.pid}
    (tmp_path / HELD).write_text(json.dumps(holder))
    taken = take(tmp_path)
    assert taken is not None
    taken.close()
    assert not list(tmp_path.glob(f"{HELD}*"))


@pytest.mark.parametrize("system", ["no flock"], indirect=True)
@pytest.mark.parametrize(("silent", "free"), [(0.0, False), (DEAD + 1, True)])
def test_a_holder_elsewhere_counts_as_gone_when_it_is_silent(
    tmp_path: Path, system: str, silent: float, free: bool
) -> None:
    (tmp_path / HELD).write_text(json.dumps({"host": "another machine", "process": 1}))
    then = time.time() - silent
    os.utime(tmp_path / HELD, (then, then))
    taken = take(tmp_path)
    assert (taken is not None) == free
    if taken is not None:
        taken.close()


@pytest.mark.parametrize("system", ["no flock"], indirect=True)
def test_a_holder_gives_signs_of_life(
    tmp_path: Path, system: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "BEAT", 0.01)
    with alone(tmp_path):
        os.utime(tmp_path / HELD, (0, 0))
        waited = time.monotonic() + 5
        while (tmp_path / HELD).stat().st_mtime == 0 and time.monotonic() < waited:
            time.sleep(0.01)
        assert (tmp_path / HELD).stat().st_mtime > 0
