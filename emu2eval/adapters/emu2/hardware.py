"""The settings of a model's YAML that say where it runs, turned into a dtype and a placement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from emu2eval.adapters.emu2.config import Emu2Config
from emu2eval.adapters.emu2.placement import Placement, plan
from emu2eval.adapters.emu2.quantize import Bits
from emu2eval.adapters.local.devices import check_devices, torch_dtype
from emu2eval.adapters.memory import Device, MemoryPlan, Workload, parse_memory
from emu2eval.errors import ConfigError


def placed(
    config: Emu2Config,
    *,
    memory: str | None,
    device_map: Mapping[str, Device] | str | None,
    positions: int,
    batch: int,
    beams: int,
    new_tokens: int,
    dtype: torch.dtype,
    quantize: Bits | None,
    painter: Mapping[str, Mapping[str, Any]] | None = None,
) -> Placement | None:
    """The placement that the settings ask for; None = all of it on the CPU.

    memory: what each device gives, such as "24GiB,24GiB,cpu:64GiB". device_map: instead of it one device
    ("cpu", "cuda:1"), or a device for each block, taken as they are. Neither = all GPUs with what is free
    of them, or the CPU. Raises ConfigError or ModelError; the rest is `placement.plan`'s.
    """
    if isinstance(device_map, str) and device_map != "auto":
        return _single(device_map)
    if isinstance(device_map, Mapping):
        return _mapped(device_map)
    budgets = parse_memory(memory) if memory is not None else _free()
    gpus = [device for device in budgets if isinstance(device, int)]
    if memory is not None and len(gpus) > torch.cuda.device_count():
        raise ConfigError(
            f"memory {memory!r} is for {len(gpus)} GPUs; "
            f"this machine has {torch.cuda.device_count()}"
        )
    if not budgets:
        return None
    return plan(
        config,
        budgets,
        positions=positions,
        batch=batch,
        beams=beams,
        new_tokens=new_tokens,
        dtype=dtype,
        quantize=quantize,
        painter=painter,
    )


def planned(
    config: Emu2Config,
    workload: Workload,
    *,
    batch: int,
    beams: int,
    dtype: str | None,
    quantize: Bits | None,
    painter: Mapping[str, Mapping[str, Any]] | None,
) -> MemoryPlan:
    """What would lie where, by sizes alone. Raises ModelError, with what would fit, where it does not."""
    on_gpu = any(isinstance(device, int) for device in workload.memory)
    precision = dtype or ("bfloat16" if on_gpu else "float32")
    positions = _positions(config, workload)
    placement = plan(
        config,
        workload.memory,
        positions=positions,
        batch=batch,
        beams=beams,
        new_tokens=workload.new_tokens,
        dtype=torch_dtype(precision),
        quantize=quantize,
        painter=painter,
    )
    return MemoryPlan(
        tuple(replace(use, parts=_parts(placement, use.device)) for use in placement.devices),
        precision if quantize is None else f"{quantize}-bit",
        positions,
        config.n_query,
        batch,
        beams,
        config.decoder.max_position_embeddings,
        placement.offloaded,
    )


def all_of_it(memory: str | None) -> dict[Device, int]:
    """What the setting gives; else all that this machine's GPUs have, or its CPU."""
    if memory is not None:
        return parse_memory(memory)
    gpus: dict[Device, int] = {
        i: torch.cuda.get_device_properties(i).total_memory
        for i in range(torch.cuda.device_count())
    }
    if gpus:
        return gpus
    import psutil  # comes with accelerate; os.sysconf is not on Windows

    return {"cpu": psutil.virtual_memory().total}


def _positions(config: Emu2Config, workload: Workload) -> int:
    # [IMG] and [/IMG] around each image; one <s>.
    each = workload.images * (config.n_query + 2) + workload.text_tokens
    return 1 + (workload.shots + 1) * each + workload.new_tokens


def _parts(placement: Placement, device: Device) -> tuple[str, ...]:
    shown = ["embeddings, bridges, lm_head"] if device == placement.main else []
    for title, prefix in (("vision", "visual.blocks."), ("layers", "decoder.lm.model.layers.")):
        numbers = sorted(
            int(name.removeprefix(prefix))
            for name, where in placement.device_map.items()
            if name.startswith(prefix) and where == device
        )
        if numbers:
            shown.append(f"{title} {numbers[0]}–{numbers[-1]}")
    return (*shown, "UNet, VAE") if device == placement.painter else tuple(shown)


def _free() -> dict[Device, int]:
    return {i: torch.cuda.mem_get_info(i)[0] for i in range(torch.cuda.device_count())}


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
