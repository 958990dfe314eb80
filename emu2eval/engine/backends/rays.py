"""Replicas as actors of Ray: on this machine, or on a cluster that runs. Only here is ray imported."""

from __future__ import annotations

import atexit
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from emu2eval.adapters.machine import Machine
from emu2eval.engine.backends.replica import Replica, ReplicaStart
from emu2eval.engine.backends.share import Node
from emu2eval.engine.backends.site import Call, ReplicaDied
from emu2eval.errors import ConfigError, MissingExtra, ModelError, UserError
from emu2eval.media.cores import cores

CALLS = 64
"""Calls that a replica takes at once: batches that wait for their turn, and what is said beside them."""

LOOK_WAIT = 120.0
"""Seconds for which GPUs that others hold are waited for."""

ANSWER_WAIT = 10.0
"""Seconds within which the head of a cluster has to take a connection."""

START_WAIT = "120"
"""Seconds for which Ray's own processes may take to start; on a busy machine its thirty are too few."""


def _ray(address: str | None) -> Any:
    for lack in MissingExtra.of(("ray",), "ray", why="--replicas and --cluster"):
        raise lack
    if address is not None:
        _look(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_raylet_start_wait_time_s", START_WAIT)
    # It would hide the GPUs from processes that ask for none, and says so on every start.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if address is not None:
        # One look of forty seconds, not twenty of them during which Ctrl-C is not heard.
        os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "1")
    if address is not None and _has_token() and "ray" not in sys.modules:
        # A cluster whose head found a token asks everybody for it; one that asks for none takes it, too. A
        # cluster that is started here has one by itself, since Ray 2.60.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    import ray

    return ray


def _has_token() -> bool:
    """Whether Ray has a token where it looks for one."""
    given = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
    return bool(given) or (Path.home() / ".ray" / "auth_token").is_file()


@cache
def connected(address: str | None, replicas: int) -> Cluster:
    """The cluster at an address, or one of this machine with room for so many replicas. It is kept until
    this process ends: Ray has one connection a process."""
    return Cluster(address, replicas)


class Cluster:
    """A connection to Ray. address: of a cluster that runs; None = one that is started for this process."""

    def __init__(self, address: str | None, replicas: int):
        self._ray = _ray(address)
        given: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if address is None:
            # A replica is a process, not a core: a laptop of two cores can have four.
            given |= {
                "num_cpus": max(cores(), replicas),
                "include_dashboard": False,
                "object_store_memory": 128 << 20,  # requests and answers are small
            }
        try:
            self._ray.init(address=address or "local", ignore_reinit_error=True, **given)
        except Exception as error:
            raise _not_there(address, error) from None
        # Before Ray's own, which a second Ctrl-C would end with a traceback.
        atexit.register(_leave, self._ray)

    @property
    def nodes(self) -> list[Node]:
        """Those that are alive."""
        alive = (node["Resources"] for node in self._ray.nodes() if node["Alive"])
        return [Node(int(has.get("CPU", 0)), int(has.get("GPU", 0))) for has in alive]

    @cached_property
    def machine(self) -> Machine:
        """The node with the most GPUs, as a replica that had all of them would see it. One of the cluster is
        looked at, and stands for all: others may be in use."""
        largest = max(self.nodes, key=lambda node: node.gpus, default=Node(1, 0))
        look = self._ray.remote(_seen).options(num_cpus=0, num_gpus=min(1, largest.gpus))
        try:
            found: Machine = self._ray.get(look.remote(), timeout=LOOK_WAIT)
        except Exception as error:
            raise ModelError(
                f"the cluster gives no GPU to look at within {LOOK_WAIT:.0f} seconds "
                f"({type(error).__name__})",
                hint="wait until others have finished, or see what holds them: ray status",
            ) from None
        count = largest.gpus
        return replace(found, gpus=found.gpus[:1] * count, cards=found.cards[:1] * count)

    def site(self, start: ReplicaStart, *, gpus: int, cores: int) -> RaySite:
        """For replicas of a model, each with so many of a node's GPUs and cores."""
        return RaySite(self._ray, start, gpus, cores)


def _leave(ray: Any) -> None:
    """Ray's processes are ended, which takes a second, whoever presses Ctrl-C again."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    ray.shutdown()


def _seen() -> Machine:
    """Called on the node that is looked at."""
    return Machine.here()


class RaySite:
    """Each replica is an actor, which Ray places where there is room for it."""

    def __init__(self, ray: Any, start: ReplicaStart, gpus: int, cores: int):
        self._ray = ray
        self._start = start
        # Its death is the pool's to mend, which knows what the actor was asked.
        self._actor = ray.remote(Replica).options(
            num_cpus=cores, num_gpus=gpus, max_restarts=0, max_task_retries=0, max_concurrency=CALLS
        )

    def start(self) -> Any:
        return self._actor.remote(self._start)

    def call(self, process: Any, method: str, *given: Any) -> Call:
        call: Call = getattr(process, method).remote(*given)
        return call

    def wait(self, calls: Sequence[Call], timeout: float | None) -> Sequence[Call]:
        ended, _ = self._ray.wait(list(calls), num_returns=1, timeout=timeout)
        found: Sequence[Call] = ended
        return found

    def result(self, call: Call) -> Any:
        errors = self._ray.exceptions
        try:
            return self._ray.get(call)
        except errors.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, UserError):
                raise cause from None
            last = str(error).strip().splitlines()[-1]
            raise ModelError(f"a replica raised {last}") from None
        except errors.RayError as error:
            raise ReplicaDied(_said(error)) from None

    def kill(self, process: Any) -> None:
        self._ray.kill(process, no_restart=True)

    def close(self) -> None:
        """Its actors end when nobody holds them."""


def _said(error: Exception) -> str:
    """The line of Ray's many that says why."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "cause" in line.lower() or "exit" in line.lower()]
    return (telling or lines or [type(error).__name__])[0][:300]


def _look(address: str) -> None:
    """Raises ConfigError if nothing listens where a cluster is said to be: Ray itself asks for minutes."""
    named, recorded = address, ""
    if address == "auto":
        note = Path(os.environ.get("RAY_TMPDIR") or "/tmp") / "ray" / "ray_current_cluster"
        named = os.environ.get("RAY_ADDRESS", "")
        recorded = " (RAY_ADDRESS)"
        if not named and note.is_file():
            named, recorded = note.read_text(encoding="utf-8").strip(), f" ({note})"
    host, _, port = named.rpartition(":")
    if "://" in named or (address == "auto" and not host):
        return  # Ray finds it, or says that there is none
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_WAIT).close()
    except ValueError:
        raise _not_there(address, ValueError(f"{named!r}{recorded} is not HOST:PORT")) from None
    except OSError as error:
        why = f"nothing listens at {named}{recorded}: {error.strerror or error}"
        raise _not_there(address, OSError(why)) from None


def _not_there(address: str | None, error: Exception) -> UserError:
    why = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
    if address is None:
        return ModelError(
            f"Ray did not start on this machine: {why}",
            hint="run the same command again; if the machine is busy, give Ray more time: "
            "RAY_raylet_start_wait_time_s=600",
        )
    return ConfigError(
        f"no Ray cluster answers: {why}",
        where=f"--cluster {address}",
        hint="start one on the first node (ray start --head), join it on the others "
        "(ray start --address=HOST:6379), and name it: --cluster HOST:6379, or auto on one of its nodes; "
        "if it needs a token, the head's ~/.ray/auth_token has to be here as well",
    )
