"""The ranks of a model, started and asked by the process that wants its answers (tensor parallelism).

None of the work is done in that process: it can always be interrupted, and a rank that dies or fails, which
leaves the others waiting for it forever, is noticed and all are ended.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from threading import Lock
from typing import IO, Any

from emu2eval.adapters.local.rank_process import Call, Done, Failed, Join, Prepare, RankError
from emu2eval.errors import ModelError
from emu2eval.trust import trusted
from emu2eval.types import Request

GRACE = 10.0
"""Seconds in which ranks that are in step with one that failed fail as well."""
TRIES = 3
"""Times that the ranks may be lost, one after the other, before the model is given up."""
_ENTRY = "from emu2eval.adapters.local.rank_process import main; main()"
_ENDS = 5.0
"""Seconds that a rank has for its end before it is killed."""


@dataclass(slots=True)
class _Process:
    number: int
    process: subprocess.Popen[bytes]
    connection: Connection
    said: IO[bytes]

    def last_words(self) -> str:
        """The last line that it wrote, such as an exception's."""
        self.said.seek(0)
        lines = self.said.read()[-4096:].decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""


class Team:
    """Processes of this machine, each with an adapter of the same settings and a share of the weights.

    weights: bytes that each holds.
    """

    def __init__(self, kind: type, settings: Any, count: int):
        self.kind = kind
        self.settings = settings
        self.count = count
        self.weights: tuple[int, ...] = ()
        self._ranks: list[_Process] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._lost = 0
        self._why = ""
        self._sending = Lock()

    def start(self) -> None:
        """Starts the ranks, which load the model. Raises ModelError, or what each of them raises."""
        if os.name != "posix":
            raise ModelError(
                "tensor parallelism needs Linux or macOS", hint="remove tensor_parallel"
            )
        self._folder = tempfile.TemporaryDirectory(prefix="emu2eval-ranks-")
        store = str(Path(self._folder.name) / "store")
        try:
            for number in range(self.count):
                self._ranks.append(self._started(number))
            for rank in self._ranks:
                join = Join(self.kind, self.settings, rank.number, self.count, store, trusted())
                self._send(rank, join)
            self.weights = tuple(done.value for done in self._answers())
        except _InStep as failed:
            self.close()
            raise failed.error from None
        except BaseException:
            self.close()
            raise

    def call(self, name: str, *arguments: Any) -> Any:
        """What the method returns on the first rank. Raises ModelError where ranks are lost or disagree.

        Ranks that are lost are started again by the next call, a few times.
        """
        if not self._ranks:
            if self._lost >= TRIES:
                raise ModelError(
                    f"the ranks of this model were lost {TRIES} times, one after the other; the last time: "
                    f"{self._why}",
                    where="tensor_parallel",
                )
            self.start()
        try:
            with self._sending:
                for rank in self._ranks:
                    self._send(rank, Call(name, arguments))
            first, *others = self._answers()
            if any(other.decided != first.decided for other in others):
                raise ModelError(
                    f"the {self.count} ranks of this model came to different answers, so none is kept",
                    hint="are all GPUs of one kind? Otherwise remove tensor_parallel, and report this",
                )
        except _InStep as failed:
            raise failed.error from None
        except BaseException as error:
            # Some may still be waiting for others, or for a call that nobody wants any more.
            self.close()
            self._lost += 1
            self._why = getattr(error, "what", str(error))
            raise
        self._lost = 0
        return first.value

    def prepare(self, request: Request) -> None:
        """Has every rank prepare a request that comes soon."""
        with self._sending:
            for rank in self._ranks:
                try:
                    rank.connection.send(Prepare(request))
                except OSError:
                    return  # the next call says what happened to it

    def close(self) -> None:
        """Ends the ranks; none is left when it returns."""
        ranks, self._ranks = self._ranks, []
        for rank in ranks:
            rank.connection.close()
        until = time.monotonic() + _ENDS
        for rank in ranks:
            try:
                rank.process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                rank.process.kill()
                rank.process.wait()
            rank.said.close()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    # -- the rest --------------------------------------------------------------------------------------------

    def _started(self, number: int) -> _Process:
        here, there = Pipe()
        said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the rank)
        with there:
            process = subprocess.Popen(
                [sys.executable, "-c", _ENTRY, str(there.fileno()), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                env=_environment(number, self.count),
                pass_fds=[there.fileno()],
                # Ctrl-C is for the process that asks, which ends them.
                start_new_session=True,
            )
        return _Process(number, process, here, said)

    def _send(self, rank: _Process, message: Join | Call) -> None:
        try:
            rank.connection.send(message)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise ModelError(
                f"what the ranks of this model need cannot be sent to them ({error})",
                hint="remove tensor_parallel, or define the adapter in a module that can be imported",
            ) from None
        except OSError:
            raise self._died(rank) from None

    def _answers(self) -> list[Done]:
        """Every rank's, in their order. Raises `_InStep` where all have failed at the same place."""
        found: dict[int, Done | Failed] = {}
        until: float | None = None
        while len(found) < len(self._ranks):
            left = {rank.connection: rank for rank in self._ranks if rank.number not in found}
            ready = wait(list(left), None if until is None else until - time.monotonic())
            if not ready:
                break
            for connection in ready:
                assert isinstance(connection, Connection)
                try:
                    found[left[connection].number] = answer = connection.recv()
                except (EOFError, OSError):
                    # What others failed at, if they did, comes of this.
                    raise self._died(left[connection]) from None
                if isinstance(answer, Failed) and until is None:
                    until = time.monotonic() + GRACE
        failed = {n: each for n, each in sorted(found.items()) if isinstance(each, Failed)}
        if not failed:
            return [each for _, each in sorted(found.items()) if isinstance(each, Done)]
        places = {each.issued for each in failed.values()}
        number, first = next(iter(failed.items()))
        if len(failed) == self.count and len(places) == 1:
            raise _InStep(first.error)
        if isinstance(first.error, RankError):
            raise RankError(f"rank {number} of {self.count}: {first.error}")
        raise first.error

    def _died(self, rank: _Process) -> ModelError:
        try:
            code = rank.process.wait(_ENDS)
        except subprocess.TimeoutExpired:
            code = 0
        how = f"ended by signal {-code}" if code < 0 else f"ended with status {code}"
        words = rank.last_words()
        return ModelError(
            f"rank {rank.number} of {self.count} of the model {how}{f': {words}' if words else ''}",
            where="tensor_parallel",
            hint="signal 9 often means that the machine's memory ran out: see `dmesg`, or use a smaller batch"
            if code == -9
            else None,
        )


class _InStep(Exception):
    """All ranks raised this, and can go on."""

    def __init__(self, error: Exception):
        super().__init__(str(error))
        self.error = error


def _environment(number: int, count: int) -> Mapping[str, str]:
    """That of a rank: it sees one GPU, finds what can be imported here, and talks within this machine."""
    own = dict(os.environ)
    here = {"linux": "lo", "darwin": "lo0"}.get(sys.platform)
    if here is not None:
        for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            own.setdefault(name, here)
    gpus = _gpus()
    if gpus:
        own["CUDA_VISIBLE_DEVICES"] = gpus[number]
    else:
        own.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    paths = [path or str(Path.cwd()) for path in sys.path]
    # Of its own number, for transformers: the GPU that it sees is its first.
    names = {"RANK": number, "WORLD_SIZE": count, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": count}
    return {
        **own,
        **{name: str(value) for name, value in names.items()},
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONSAFEPATH": "1",
    }


def _gpus() -> list[str]:
    """As CUDA_VISIBLE_DEVICES names them."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    found = [str(n) for n in range(count)] if named is None else named.split(",")
    return found[:count]
