"""What a rank's process runs: it builds an adapter, loads its share, and answers calls (tensor parallelism).

Messages are pickled, and travel on a socket that only the two processes have.
"""

from __future__ import annotations

import os
import pickle
import sys
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any

from emu2eval.adapters.local.rank import Rank, joined
from emu2eval.errors import UserError
from emu2eval.trust import trusting
from emu2eval.types import Request, Response

if TYPE_CHECKING:
    from emu2eval.adapters.local.adapter import LocalAdapter

_LOOKS = 2.0
"""Seconds after which a rank that is asked nothing looks whether there is anyone to ask it."""


@dataclass(frozen=True, slots=True)
class Join:
    """The first message. kind, settings: of the adapter; store: a file by which the ranks find each other."""

    kind: type[LocalAdapter[Any, Any, Any]]
    settings: Any
    number: int
    count: int
    store: str
    trusted: bool


@dataclass(frozen=True, slots=True)
class Call:
    """A method of the adapter, which all ranks run in step."""

    name: str
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Prepare:
    """A request that comes soon; each rank prepares it as it finds time, and nothing is answered."""

    request: Request


@dataclass(frozen=True, slots=True)
class Done:
    """value: of the first rank, None of others; decided: what every rank must have come to alike."""

    value: Any
    decided: Any = None


@dataclass(frozen=True, slots=True)
class Failed:
    """issued: how many exchanges this rank has begun. Ranks that failed at the same one are still in step."""

    error: Exception
    issued: int


class RankError(Exception):
    """An exception of a rank, other than a UserError, in words."""


def decided(value: Any) -> Any:
    """What ranks that are in step have alike, bit for bit: the words, but no sums."""
    if isinstance(value, Sequence) and value and isinstance(value[0], Response):
        return [(r.text, r.raw, r.thought, r.ended, r.error) for r in value]
    return None


def main() -> None:
    """Serves the process at the other end of a socket until that ends.

    The arguments: the socket's number, and that process's.
    """
    connection = Connection(int(sys.argv[1]))
    calls: SimpleQueue[Join | Call] = SimpleQueue()
    prepare: list[Callable[[Request], None]] = []
    Thread(target=_listen, args=(connection, calls, prepare), daemon=True).start()
    join = calls.get()
    assert isinstance(join, Join)
    try:
        rank = joined(join.number, join.count, join.store)
        with trusting(join.trusted):
            adapter = join.kind(join.settings)
        adapter.rank = rank
        adapter.load()
        held = _weight_bytes(adapter)
    except Exception as error:
        connection.send(Failed(_sendable(error), 0))
        # Until the end, which the other thread is told: another rank may be about to say what happened to it.
        calls.get()
        return
    connection.send(Done(held))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    prepare.append(_in_background(adapter, max(1, (cores or 1) // join.count)))
    while True:
        call = calls.get()
        assert isinstance(call, Call)
        connection.send(_made(adapter, rank, call))


def _listen(
    connection: Connection,
    calls: SimpleQueue[Join | Call],
    prepare: Sequence[Callable[[Request], None]],
) -> None:
    # Also while the main thread waits for other ranks: a rank never outlives the process that asks it, though
    # another that was forked off that one may hold the socket open.
    asking = int(sys.argv[2])
    try:
        while True:
            while not connection.poll(_LOOKS):
                if os.getppid() != asking:
                    os._exit(0)
            message = connection.recv()
            if isinstance(message, Prepare):
                for each in prepare:
                    each(message.request)
            else:
                calls.put(message)
    except (EOFError, OSError):
        os._exit(0)
    except BaseException:
        # A message that cannot be read; its last line is told.
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def _in_background(adapter: LocalAdapter[Any, Any, Any], threads: int) -> Callable[[Request], None]:
    pool = ThreadPoolExecutor(threads)

    def one(request: Request) -> None:
        pool.submit(adapter.prepare, request)  # what it raises, `answer` raises again

    return one


def _made(adapter: LocalAdapter[Any, Any, Any], rank: Rank, call: Call) -> Done | Failed:
    try:
        value = getattr(adapter, call.name)(*call.arguments)
    except Exception as error:
        from emu2eval.adapters.local.private import exchanges

        failed = _sendable(error)
        del error  # its frames hold the batch's keys and values
        return Failed(failed, exchanges())
    return Done(value if rank.number == 0 else None, decided(value))


def _sendable(error: Exception) -> Exception:
    if isinstance(error, UserError):
        try:
            pickle.dumps(error)
            return error.with_traceback(None)
        except Exception:
            return UserError(error.what, where=error.where, hint=error.hint)
    return RankError(f"{type(error).__name__}: {error}")


def _weight_bytes(adapter: LocalAdapter[Any, Any, Any]) -> int:
    """Of the weights that this rank holds of the adapter's model."""
    from emu2eval.adapters.local.shares import local

    model = adapter._loaded().reader.model
    return sum(local(weight).nbytes for weight in model.parameters())
