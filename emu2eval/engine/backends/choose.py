"""Which backend runs a model: this process, or replicas."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec

from emu2eval.adapters.base import Adapter
from emu2eval.adapters.machine import Machine
from emu2eval.engine.backends.base import Backend
from emu2eval.engine.backends.here import Here
from emu2eval.engine.backends.pool import Placing, Replicas, Tell
from emu2eval.engine.backends.replica import ReplicaStart
from emu2eval.engine.backends.share import as_many, cores_each, room
from emu2eval.engine.objects import ObjectSpec
from emu2eval.engine.plan import model_identity
from emu2eval.errors import ConfigError
from emu2eval.spec.model import ModelSpec
from emu2eval.trust import trusted
from emu2eval.watch import Watcher


@dataclass(frozen=True)
class Where:
    """Where models run, as the command says it. replicas: of each, None = one in this process, unless a
    cluster is named. cluster: the address of Ray, or "auto". device: as of `open_model`."""

    replicas: int | Literal["auto"] | None = None
    cluster: str | None = None
    device: str | None = None

    @property
    def here(self) -> bool:
        return self.replicas is None and self.cluster is None

    def machine(self) -> Machine | None:
        """What the planner's copy of a model is told to run on; None = this machine. Raises UserError."""
        if self.cluster is None:
            return None
        from emu2eval.engine.backends.rays import connected

        return connected(self.cluster, 1).machine

    def backend(self, model: ModelSpec, adapter: Adapter, told: Watcher) -> Backend:
        """Whatever runs the model; nothing is started yet. Raises ConfigError."""
        loading = partial(told.loading, model.name)
        in_memory = isinstance(model, ObjectSpec)
        if self.here:
            return Here(adapter, loading, inline=in_memory)
        if in_memory:
            raise ConfigError(
                f"{model.name} is an object of this program, which other processes cannot be given",
                where="--replicas",
                hint="name the model by a file, a folder or a name on the hub; or leave out replicas",
            )
        if not adapter.replicable:
            raise ConfigError(
                f"{model.name} is answered by a server, of which replicas would be the same server again",
                where="--replicas",
                hint="ask it more at once: --set model.settings.concurrency=32",
            )
        tell = Tell(loading, told.replicas, told.note)
        return Replicas(
            partial(self._placing, model, adapter, told),
            partial(model_identity, model, adapter),
            tell,
            streams=type(adapter).stream is not Adapter.stream,
            settles=adapter.uses_gpus and (self.cluster is not None or _has_gpus()),
        )

    def _placing(self, model: ModelSpec, adapter: Adapter, told: Watcher) -> Placing:
        """Fewest GPUs a replica, then replicas. Raises UserError."""
        from emu2eval.engine.backends.rays import connected

        asked = self.replicas if isinstance(self.replicas, int) else None
        cluster = connected(self.cluster, (asked or 1) if self.cluster is None else 1)
        nodes = cluster.nodes
        gpus = 0
        if any(node.gpus for node in nodes) and adapter.uses_gpus:
            machine = adapter.machine = cluster.machine
            fit = adapter.fit_replicas(machine.gpus)
            gpus = fit.gpus if fit is not None else 1
            adapter.machine = replace(machine, gpus=machine.gpus[:gpus], cards=machine.cards[:gpus])
        count = asked or as_many(nodes, gpus=gpus)
        cores = cores_each(nodes, count, gpus=gpus)
        there = room(nodes, gpus=gpus, cores=cores)
        if there < count:
            needs = f"{gpus} GPUs" if gpus > 1 else "1 GPU" if gpus else "1 core"
            told.note(
                f"{model.name}: there is room for {there} of {count} replicas ({needs} each) now; the others "
                "start when there is more"
            )
        folder, paths = os.getcwd(), tuple(map(os.path.abspath, sys.path))  # noqa: PTH109
        start = ReplicaStart(
            _anywhere(model), self.device, adapter.workload, cores, folder, paths, trusted()
        )
        return Placing(cluster.site(start, gpus=gpus, cores=cores), count)


def _has_gpus() -> bool:
    """Whether this machine has a GPU of CUDA; none is touched."""
    try:
        import torch
    except ModuleNotFoundError:
        return False
    return bool(torch.cuda.is_available())


def _anywhere(model: ModelSpec) -> ModelSpec:
    """The model with the whole path of its checkpoint: another process has another folder."""
    settings = dict(model.settings)
    for key in ("checkpoint", "adapter", "encoder"):
        given = settings.get(key)
        if isinstance(given, str) and Path(given).exists():
            settings[key] = os.fspath(Path(given).resolve())
    return msgspec.structs.replace(model, settings=settings)
