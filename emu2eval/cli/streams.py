"""Standard output and error that cost no run: full, closed, or of an encoding that lacks a character."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any, TextIO, cast


class Lenient:
    """A stream of messages: once it cannot be written, it stays silent."""

    def __init__(self, stream: TextIO | None):
        self._stream = stream

    def write(self, text: str) -> int:
        if self._stream is not None:
            try:
                self._stream.write(text)
            except (OSError, ValueError):  # its reader has gone, the disk is full, it is closed
                self._stream = None
        return len(text)

    def flush(self) -> None:
        if self._stream is not None:
            try:
                self._stream.flush()
            except (OSError, ValueError):
                self._stream = None

    def isatty(self) -> bool:
        return self._stream is not None and self._stream.isatty()

    def __getattr__(self, name: str) -> Any:
        if self.__dict__.get("_stream") is None:
            raise AttributeError(name)
        return getattr(self._stream, name)


def prepare() -> None:
    """Makes both streams replace what they cannot show; messages on standard error never end the program."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            with contextlib.suppress(OSError, ValueError):
                reconfigure(errors="replace")
    if not isinstance(sys.stderr, Lenient):
        sys.stderr = cast(TextIO, Lenient(sys.stderr))


def finish() -> OSError | None:
    """Empties standard output before the interpreter does it; what went wrong, if something did."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except (OSError, ValueError) as error:
        # Nothing more can be written; the interpreter's own attempt must not fail again.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return error if isinstance(error, OSError) else None
    return None


@contextlib.contextmanager
def stopping() -> Iterator[list[int]]:
    """Within, SIGTERM and SIGHUP, which schedulers send, stop as Ctrl-C does; an ignored one stays so.

    Gives a list to which every such signal is added.
    """
    caught: list[int] = []

    def stop(number: int, frame: object) -> None:
        caught.append(number)
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield caught
        return
    before = {}
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, stop)
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
