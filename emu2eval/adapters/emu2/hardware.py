"""The settings of a model's YAML that say where it runs, turned into a dtype and a placement."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from emu2eval.adapters.emu2.config import Emu2Config
from emu2eval.adapters.emu2.placement import measured
from emu2eval.adapters.local import placement
from emu2eval.adapters.local.bits import Bits
from emu2eval.adapters.local.devices import check_devices, torch_dtype
from emu2eval.adapters.local.parallel import degrees
from emu2eval.adapters.local.placement import Demand, Placement
from emu2eval.adapters.machine import Machine
from emu2eval.adapters.memory import Device, MemoryPlan, Workload, parse_memory
from emu2eval.errors import ConfigError

_TITLES = {"visual.blocks.": "vision", "decoder.lm.model.layers.": "layers"}


def placed(
    config: Emu2Config,
    budgets: Mapping[Device, int],
    device_map: Mapping[str, Device] | str | None,
    demand: Demand,
    *,
    dtype: torch.dtype,
    painter: Mapping[str, Mapping[str, Any]] | None = None,
) -> Placement | None:
    """The placement that the settings ask for; None = all of it on the CPU.

    budgets: bytes by device; none = the CPU. device_map: instead of them one device ("cpu", "cuda:1"), or a
    device for each block, taken as they are. Raises ConfigError or DoesNotFit.
    """
    if isinstance(device_map, str) and device_map != "auto":
        return _single(device_map)
    if isinstance(device_map, Mapping):
        return _mapped(device_map)
    if not budgets:
        return None
    return placement.placed(measured(config, dtype, painter), demand, budgets)


def chosen(
    config: Emu2Config,
    memory: str | None,
    machine: Machine,
    demand: Demand,
    *,
    dtype: torch.dtype,
    painter: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[Device, int]:
    """The devices that are used, and bytes of each: what `memory` gives, such as "24GiB,24GiB,cpu:64GiB";
    else the fewest of the machine's GPUs that hold the model; none without GPUs. Raises ConfigError."""
    if memory is None:
        need = measured(config, dtype, painter)
        return placement.fewest_gpus(machine.gpus, need, demand)
    budgets = parse_memory(memory)
    count = sum(isinstance(device, int) for device in budgets)
    if count > len(machine.gpus):
        raise ConfigError(
            f"memory {memory!r} is for {count} GPUs; this machine has {len(machine.gpus)}"
        )
    return budgets


def planned(
    config: Emu2Config,
    workload: Workload,
    memory: Mapping[Device, int],
    *,
    batch: int,
    beams: int,
    dtype: str | None,
    quantize: Bits | None,
    painter: Mapping[str, Mapping[str, Any]] | None,
    ranks: int = 1,
) -> MemoryPlan:
    """What would lie where, by sizes alone. Raises DoesNotFit, with what would."""
    on_gpu = any(isinstance(device, int) for device in memory)
    precision = dtype or ("bfloat16" if on_gpu else "float32")
    demand = Demand(
        workload.positions or _positions(config, workload),
        workload.batch or batch,
        workload.beams or beams,
        workload.new_tokens,
        quantize,
    )
    need, fixed = measured(config, torch_dtype(precision), painter), "embeddings, bridges, lm_head"
    if ranks > 1 and on_gpu:
        each = placement.over_ranks(
            need, demand, memory, ranks, "decoder.", degrees(config.decoder)
        )
        titles = {**_TITLES, "decoder.lm.model.layers.": f"1/{ranks} of layers"}
        uses = [use for one in each for use in placement.described(one, fixed, titles)]
        found = each[0]
    else:
        found = placement.placed(need, demand, memory)
        uses = [*placement.described(found, fixed, _TITLES)]
    return MemoryPlan(
        tuple(uses),
        precision if quantize is None else f"{quantize}-bit",
        demand.positions,
        config.n_query,
        demand.batch,
        demand.beams,
        config.decoder.max_position_embeddings,
        found.offloaded,
    )


def all_of_it(memory: str | None, machine: Machine) -> dict[Device, int]:
    """What the setting gives; else all that the machine's GPUs have, or its CPU."""
    if memory is not None:
        return parse_memory(memory)
    return dict(enumerate(machine.gpus)) or {"cpu": machine.host}


def _positions(config: Emu2Config, workload: Workload) -> int:
    # [IMG] and [/IMG] around each image; one <s>.
    each = workload.images * (config.n_query + 2) + workload.text_tokens
    return 1 + (workload.shots + 1) * each + workload.new_tokens


def _single(name: str) -> Placement:
    check_devices(name)
    device = torch.device(name)
    place: Device = (device.index or 0) if device.type == "cuda" else device.type
    return Placement({"": place}, place, place, ())


def _mapped(device_map: Mapping[str, Device]) -> Placement:
    given = Placement(device_map, "cpu", None, ())
    main = given.device_of("decoder.lm.model.embed_tokens")
    if main == "disk":
        raise ConfigError("device_map puts the embeddings on disk", hint="put them on a device")
    for name in ("decoder.lm.lm_head", "decoder.lm.model.norm", "project_up", "project_down"):
        if given.device_of(name) != main:
            raise ConfigError(
                f"device_map puts {name} on {given.device_of(name)}, but the embeddings on {main}",
                hint="inputs and outputs must be on the same device",
            )
    return Placement(device_map, main, main, ())
