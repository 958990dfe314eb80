"""Where weights go and how precisely they are kept, where the settings leave it open."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from emu2eval.adapters.machine import Machine
from emu2eval.errors import ConfigError

DeviceMap = Mapping[str, int | str] | str | None
"""A device, one for each module, or a way of spreading a model; None = the GPUs, else the CPU."""

_SPREAD = frozenset({"auto", "balanced", "balanced_low_0", "sequential"})


def torch_dtype(
    name: str | None, device_map: DeviceMap = None, machine: Machine | None = None
) -> torch.dtype:
    """By name; None = bfloat16 on a GPU and float32 elsewhere, as bfloat16 is very slow on a CPU.

    machine: where the model runs; None = this one.
    """
    if name is None:
        return torch.bfloat16 if on_gpu(device_map, machine) else torch.float32
    found: torch.dtype = getattr(torch, name)
    return found


def on_gpu(device_map: DeviceMap, machine: Machine | None = None) -> bool:
    """Whether a GPU of CUDA takes part. machine: None = this one, whose GPUs are not touched."""
    if device_map is None or (isinstance(device_map, str) and device_map in _SPREAD):
        return torch.cuda.is_available() if machine is None else bool(machine.gpus)
    return any(isinstance(each, int) or each.startswith("cuda") for each in _named(device_map))


def devices() -> list[str]:
    """What this machine has, as torch calls it."""
    found = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    return found + (["mps"] if torch.backends.mps.is_available() else [])


def check_devices(device_map: DeviceMap, machine: Machine | None = None) -> None:
    """Raises ConfigError for a device that the machine (None = this one) does not have."""
    here = devices() if machine is None else machine.devices
    for each in dict.fromkeys(_named(device_map)):
        name = f"cuda:{each}" if isinstance(each, int) else each
        spread = isinstance(device_map, str) and name in _SPREAD
        if name in here or spread or (name == "cuda" and "cuda:0" in here):
            continue
        if name != "disk" or isinstance(device_map, str):
            raise ConfigError(
                f"this machine has no device {name!r}; it has {', '.join(here)}",
                hint=f"--device {here[-1]}, or model.settings.device_map in the model file",
            )


def _named(device_map: DeviceMap) -> list[int | str]:
    if isinstance(device_map, Mapping):
        return list(device_map.values())
    return [] if device_map is None else [device_map]


def default_device() -> torch.device:
    """The first GPU, or the CPU where there is none."""
    return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")


def model_of(device: torch.device) -> str:
    """What decides the last bits of its arithmetic: the card's name, or the CPU's instructions."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    if device.type == "cpu":
        return f"cpu {torch.backends.cpu.get_cpu_capability()}"
    return device.type


def device_of(module: nn.Module) -> torch.device:
    """Where a module runs."""
    place = _hooked(module)
    if place is None:
        device = next(module.parameters()).device
        if device.type != "meta":
            return device
        # accelerate keeps offloaded weights on "meta"; a hook further down knows where they are brought to.
        place = next(filter(None, map(_hooked, module.modules())), device)
    return torch.device(place)


def _hooked(module: nn.Module) -> Any:
    return getattr(getattr(module, "_hf_hook", None), "execution_device", None)


@contextmanager
def exact_convolutions() -> Iterator[None]:
    """Convolutions of float32 are computed in float32, as a CPU does it: cuDNN's default is TF32.

    On an H200 a batch of images moved log-probabilities by 8e-5 with TF32, and by 1e-6 without.
    """
    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32
    cudnn.allow_tf32 = False
    try:
        yield
    finally:
        cudnn.allow_tf32 = before
