"""The settings of a model's YAML that say where it runs, turned into a dtype and a placement."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from emu2eval.adapters.emu2.config import Emu2Config
from emu2eval.adapters.emu2.memory import Device, parse_memory
from emu2eval.adapters.emu2.placement import Placement, plan
from emu2eval.adapters.emu2.quantize import Bits, check_bits
from emu2eval.errors import ConfigError, UnknownName

_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


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
    if memory is not None and device_map is not None:
        raise ConfigError("memory and device_map are both set", hint="leave one of them out")
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


def fits(
    config: Emu2Config, settings: Mapping[str, Any], positions: int, new_tokens: int
) -> Placement | None:
    """Plans a model by the settings of its YAML; None where they place it themselves.

    Where neither memory nor GPUs are there, all of it must fit into what is free of the CPU's memory.
    Raises ModelError, with what would fit, where it does not.
    """
    if settings.get("device_map") is not None:
        return None
    memory = settings.get("memory")
    budgets = parse_memory(memory) if memory is not None else _free() or {"cpu": _free_of_cpu()}
    on_gpu = any(isinstance(device, int) for device in budgets)
    return plan(
        config,
        budgets,
        positions=positions,
        batch=int(settings.get("batch", 4)),
        beams=int(settings.get("beams", 5)),
        new_tokens=new_tokens,
        dtype=named_dtype(str(settings.get("dtype") or ("bfloat16" if on_gpu else "float32"))),
        quantize=check_bits(settings["quantize"]) if settings.get("quantize") else None,
    )


def _free_of_cpu() -> int:
    """Bytes; where the system does not say, what it has in all."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
        lines = dict(line.split(":", 1) for line in text.splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def named_dtype(name: str) -> torch.dtype:
    """Raises UnknownName."""
    if name not in _DTYPES:
        raise UnknownName("dtype", name, _DTYPES)
    return _DTYPES[name]


def _free() -> dict[Device, int]:
    return {i: torch.cuda.mem_get_info(i)[0] for i in range(torch.cuda.device_count())}


def _single(name: str) -> Placement:
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(
            f"device_map {name!r} is no device", hint="auto, cpu, or cuda:0 and so on"
        ) from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device_map {name!r}: this machine has {torch.cuda.device_count()} GPUs")
    place: Device = (device.index or 0) if device.type == "cuda" else device.type
    return Placement({"": place}, place, place, ())


def _mapped(device_map: Mapping[str, Device]) -> Placement:
    given = Placement(device_map, "cpu", None, ())
    main = given.device_of("decoder.lm.model.embed_tokens")
    if main == "disk":
        raise ConfigError("device_map puts the embeddings on the disk", hint="give them a device")
    for name in ("decoder.lm.lm_head", "decoder.lm.model.norm", "project_up", "project_down"):
        if given.device_of(name) != main:
            raise ConfigError(
                f"device_map puts {name} on {given.device_of(name)}, the embeddings on {main}",
                hint="they stand beside each other: what goes in and what comes out",
            )
    return Placement(device_map, main, main, ())
