"""Replicas as actors of Ray: on this machine, or on a cluster that runs. Only here is ray imported."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from emu2eval.engine.backends.replica import Replica
from emu2eval.engine.backends.site import Call, ReplicaDied
from emu2eval.errors import ConfigError, MissingExtra, ModelError, UserError
from emu2eval.media.cores import cores
from emu2eval.spec.model import ModelSpec

CALLS = 64
"""Calls that a replica takes at once: batches that wait for their turn, and what is said beside them."""

START_WAIT = "120"
"""Seconds for which Ray's own processes may take to start; on a busy machine its thirty are too few."""


def _ray() -> Any:
    for lack in MissingExtra.of(("ray",), "ray", why="--replicas and --cluster"):
        raise lack
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_raylet_start_wait_time_s", START_WAIT)
    # It would hide the GPUs from processes that ask for none, and says so on every start.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    return ray


class Cluster:
    """A connection to Ray. address: of a cluster that runs; None = one that is started for this process."""

    def __init__(self, address: str | None, replicas: int | None = None):
        self._ray = _ray()
        given: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if address is None:
            # A replica is a process, not a core: a laptop of two cores can have four.
            given |= {
                "num_cpus": max(cores(), replicas or 1),
                "include_dashboard": False,
                "object_store_memory": 128 << 20,  # requests and answers are small
            }
        try:
            self._ray.init(address=address, **given)
        except Exception as error:
            raise _not_there(address, error) from None

    def gpus(self) -> float:
        """Of all nodes."""
        return float(self._ray.cluster_resources().get("GPU", 0))

    def hosts(self) -> int:
        return sum(bool(node["Alive"]) for node in self._ray.nodes())

    def site(
        self, model: ModelSpec, device: str | None, *, gpus: float = 0, cpus: float = 1
    ) -> RaySite:
        """For replicas of a model, each with so many of a node's GPUs and cores."""
        return RaySite(self._ray, model, device, gpus, cpus)

    def close(self) -> None:
        self._ray.shutdown()


class RaySite:
    """Each replica is an actor, which Ray places where there is room for it."""

    def __init__(self, ray: Any, model: ModelSpec, device: str | None, gpus: float, cpus: float):
        self._ray = ray
        self._given = model, device
        # Its death is the pool's to mend, which knows what the actor was asked.
        self._actor = ray.remote(Replica).options(
            num_cpus=cpus, num_gpus=gpus, max_restarts=0, max_task_retries=0, max_concurrency=CALLS
        )

    def start(self) -> Any:
        return self._actor.remote(*self._given)

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
        "(ray start --address=HOST:6379), and name it: --cluster HOST:6379, or auto on one of its nodes",
    )
