"""A server as a process of ours: started through the supervisor, watched, stopped with all it started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from emu2eval.adapters.served import supervisor
from emu2eval.spec.secrets import scrubbed

GRACE = 10.0
"""Seconds that a server has to end in order before it is killed."""
LAST_LINES = 12
"""Lines of what a server wrote that an error shows."""
_LINE = 300
_TAIL = 16 << 10


class ServerProcess:
    """A server, from its start until `stop`. What it writes goes to `log`, which only the user can read."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str]):
        descriptor, path = tempfile.mkstemp(prefix=f"emu2eval-{name}-", suffix=".log")
        self.log = Path(path)
        with os.fdopen(descriptor, "wb") as log:
            self._supervisor = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-S", supervisor.__file__),
                    *(str(os.getpid()), str(GRACE), *command),
                ],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=dict(environment),
                # Ctrl-C at the terminal is for us: answers under way are still wanted.
                start_new_session=True,
            )

    @property
    def ended(self) -> str | None:
        """How it ended by itself; None while it runs."""
        code = self._supervisor.poll()
        if code is None:
            return None
        if code < 0 or code > 128:
            return f"killed by signal {-code if code < 0 else code - 128}"
        return f"exit code {code}"

    def listens(self, port: int) -> bool:
        """Whether this port of the loopback is its own, and not of somebody who was quicker."""
        inodes = _listening(port)
        for pid in supervisor.below(self._supervisor.pid):
            with suppress(OSError):
                for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                    with suppress(OSError):
                        if str(descriptor.readlink()) in inodes:
                            return True
        return False

    def last_lines(self, count: int = LAST_LINES) -> str:
        """The end of what it wrote, without secrets of the environment."""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - _TAIL))
            lines = file.read().decode(errors="replace").replace("\r", "\n").splitlines()
        said = [line.rstrip()[:_LINE] for line in lines if line.strip()]
        return scrubbed("\n".join(said[-count:]))

    def stop(self) -> None:
        """Ends it, waits until all of its processes are gone, and removes the log."""
        assert self._supervisor.stdin is not None
        self._supervisor.stdin.close()
        # A process that we forked meanwhile may hold the other end of its input open.
        self._supervisor.terminate()
        try:
            self._supervisor.wait(GRACE + 15)
        except subprocess.TimeoutExpired:  # what a broken driver holds cannot be killed
            for pid in (*supervisor.below(self._supervisor.pid), self._supervisor.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._supervisor.wait()
        self.log.unlink(missing_ok=True)


def _listening(port: int) -> set[str]:
    """The sockets that listen on a TCP port, as /proc names what a descriptor is open on."""
    found = set()
    for table in ("tcp", "tcp6"):
        with suppress(OSError), Path(f"/proc/net/{table}").open() as lines:
            for fields in map(str.split, lines):
                if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                    found.add(f"socket:[{fields[9]}]")
    return found
