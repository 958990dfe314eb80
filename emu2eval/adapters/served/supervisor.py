"""A small process between this program and a server, so that the server never outlives the program.

Run by its path, with nothing but Python's own library: supervisor.py PARENT GRACE PROGRAM [ARGUMENT …]. It
starts the program, and stops it with everything that it started: when standard input ends, which the kernel
sees to however the parent dies, when its parent is another process than PARENT, or on SIGTERM. First SIGTERM
to the program alone, so that it can end in order; after GRACE seconds SIGKILL to all that is left. It ends
with the program's exit code, or 128 and the signal that ended it.

What an engine starts may outlive the engine when that is killed (vLLM's EngineCore: vllm-project/vllm#55510).
So this process takes orphans in as their parent (PR_SET_CHILD_SUBREAPER): none leaves its tree.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
_LOOK = 1.0
"""Seconds between two looks at who the parent is."""


def below(pid: int) -> Iterator[int]:
    """Every process that descends from this one, as /proc has it now."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdecimal():
            with contextlib.suppress(OSError, ValueError):
                stat = os.open(f"/proc/{name}/stat", os.O_RDONLY)
                try:
                    # The name of a program, in parentheses, may hold anything.
                    state, parent = os.read(stat, 4096).rpartition(b")")[2].split()[:2]
                finally:
                    os.close(stat)
                if state != b"Z":
                    children.setdefault(int(parent), []).append(int(name))
    left = [pid]
    while left:
        for child in children.get(left.pop(), ()):
            yield child
            left.append(child)


def main(parent: int, grace: float, command: list[str]) -> int:
    """Supervises until the program and all that it started are gone."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    woken, wakes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    for each in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(each, lambda number, frame: None)
    try:
        program = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            # If this process is killed itself; its only thread is the one that starts the program.
            preexec_fn=lambda: prctl(_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0),
        )
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        return 127
    ends = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    watched = select.poll()
    watched.register(0, select.POLLIN | select.POLLHUP)
    watched.register(woken, select.POLLIN)
    code = None
    while code is None and os.getppid() == parent:
        ready = dict(watched.poll(_LOOK * 1000))
        if 0 in ready and not _more(0):
            break
        if woken in ready:
            if any(number in ends for number in os.read(woken, 512)):
                break
            code = program.poll()
            _reap(program.pid)
    if code is None:
        program.terminate()
        code = _ended(program, grace)
    _kill_all(program.pid)
    code = program.wait()
    return code if code >= 0 else 128 - code


def _more(descriptor: int) -> bool:
    """Whether something was written, which means nothing; False: the other end is closed."""
    with contextlib.suppress(OSError):
        return bool(os.read(descriptor, 512))
    return False


def _ended(program: subprocess.Popen[bytes], grace: float) -> int | None:
    """The exit code once the program and its tree have ended, or None when the time is over."""
    until = time.monotonic() + grace
    while time.monotonic() < until:
        code = program.poll()
        _reap(program.pid)
        if code is not None and next(below(os.getpid()), None) is None:
            return code
        time.sleep(0.02)
    return None


def _reap(program: int) -> None:
    """Takes note of orphans that have ended; the program's own end is for `subprocess` to see."""
    with contextlib.suppress(ChildProcessError):
        while (
            found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        ) and found.si_pid != program:
            os.waitpid(found.si_pid, 0)


def _kill_all(program: int) -> None:
    """Kills until nothing is left; what is killed may just have started something."""
    for _ in range(500):
        left = list(below(os.getpid()))
        for each in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(each, signal.SIGKILL)
        _reap(program)
        if not left:
            return
        time.sleep(0.02)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
