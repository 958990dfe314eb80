"""`emu2eval …` called in this process, and how it ended."""

from __future__ import annotations

import contextlib
import io
import itertools
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

ALLOWED = (0, 2, 3, 130)
SECONDS = 20


class _Hang(BaseException):
    """Raised by the alarm; no `except Exception` takes it."""


@dataclass(frozen=True)
class Ended:
    """code: the exit code; None after a traceback or a hang, which `fault` then tells."""

    code: int | None
    out: str
    err: str
    seconds: float
    fault: str | None = None

    @property
    def kind(self) -> str:
        """ "fine", "told", or what is wrong."""
        if self.fault is not None:
            return "hang" if self.fault == "hang" else "traceback"
        if self.code not in ALLOWED:
            return "exit code"
        return "fine" if self.code == 0 else "told"


def call(*arguments: str) -> Ended:
    """Runs the program; the caller's working directory is where it works. Main thread alone."""
    import typer

    from emu2eval import cli

    out, err = io.StringIO(), io.StringIO()
    before, code, fault = sys.argv, None, None
    started = time.perf_counter()
    sys.argv = ["emu2eval", *arguments]
    built, build = _built(), typer.main.get_command
    typer.main.get_command = lambda app: built  # type: ignore[assignment]
    handler = signal.signal(signal.SIGALRM, _alarm(time.process_time()))
    signal.setitimer(signal.ITIMER_REAL, SECONDS, SECONDS)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except _Hang:
        fault = "hang"
    except BaseException:
        fault = traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        sys.argv, typer.main.get_command = before, build
    return Ended(code, out.getvalue(), err.getvalue(), time.perf_counter() - started, fault)


@cache
def _built() -> Callable[..., Any]:
    """The parser of the command line, whose building takes longer than most commands of a campaign."""
    import typer

    from emu2eval import cli

    return typer.main.get_command(cli.app)


def _alarm(began: float) -> Callable[[int, FrameType | None], None]:
    """began: process_time(). A machine with other work gives more time, three times as much at most."""
    rings = itertools.count(1)

    def ring(number: int, frame: FrameType | None) -> None:
        if time.process_time() - began > SECONDS / 2 or next(rings) == 3:
            raise _Hang

    return ring


@contextlib.contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """As a user who stands in the folder, with its data, runs and cache and nobody else's."""
    import os

    own = {"EMU2EVAL_CACHE": str(folder / "cache"), "COLUMNS": "200"}
    before = {name: os.environ.get(name) for name in (*own, "EMU2EVAL_RUNS", "EMU2EVAL_DATA")}
    os.environ.update(own)
    os.environ.pop("EMU2EVAL_RUNS", None)
    os.environ.pop("EMU2EVAL_DATA", None)
    try:
        with contextlib.chdir(folder):
            yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
