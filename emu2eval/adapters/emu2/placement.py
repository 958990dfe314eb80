"""Which part of Emu2 goes to which device, worked out before a weight is read and without a GPU.

Whole blocks only, in order, so that a pass crosses from device to device as seldom as possible. Counted are
weights, keys and values, activations and, for Emu2-Gen, the visual decoder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from emu2eval.adapters.emu2.budget import Need, Unit, measure
from emu2eval.adapters.emu2.config import Emu2Config
from emu2eval.adapters.emu2.quantize import Bits
from emu2eval.adapters.memory import GIB, RESERVE, Device, DeviceUse, gib, parse_memory
from emu2eval.errors import ModelError


@dataclass(frozen=True, slots=True)
class Placement:
    """device_map: a device for each block, in accelerate's form: a GPU's number, "cpu" or "disk".

    main: where token ids go in and logits come out; painter: the device of UNet and VAE, if there are any.
    """

    device_map: Mapping[str, Device]
    main: Device
    painter: Device | None
    devices: tuple[DeviceUse, ...]

    @property
    def offloaded(self) -> tuple[str, ...]:
        """Devices whose blocks run on the main device, their weights brought there for every pass."""
        used = set(self.device_map.values())
        return tuple(d for d in ("cpu", "disk") if d in used and d != self.main)

    @property
    def away(self) -> int:
        """How many blocks are brought to the main device for every pass."""
        return sum(device in self.offloaded for device in self.device_map.values())

    def device_of(self, name: str) -> Device:
        """The device of a parameter or module, by its full name."""
        while name and name not in self.device_map:
            name = name.rpartition(".")[0]
        return self.device_map.get(name, self.main)


def plan(
    config: Emu2Config,
    memory: str | Mapping[Device, int],
    *,
    positions: int,
    batch: int = 1,
    beams: int = 1,
    new_tokens: int = 0,
    dtype: torch.dtype = torch.bfloat16,
    quantize: Bits | None = None,
    painter: Mapping[str, Mapping[str, Any]] | None = None,
    reserve: int = RESERVE,
) -> Placement:
    """Places the model for prompts of `positions` tokens, of which `new_tokens` are the answer.

    memory: such as "24GiB,24GiB,cpu:64GiB" or bytes by device. reserve: bytes left free on each GPU.
    painter: configurations of "unet" and "vae", as a checkpoint holds them; {} = none, None = as published.
    Raises ModelError with the numbers, and with what would fit, where it does not.
    """
    budgets = parse_memory(memory) if isinstance(memory, str) else dict(memory)
    measured = partial(
        measure, config, positions=positions, new_tokens=new_tokens, dtype=dtype, painter=painter
    )
    need = measured(batch=batch, beams=beams, quantize=quantize)
    placement = _place(need, budgets, reserve)
    if placement is not None:
        return placement
    others = {
        "8-bit": partial(measured, batch=batch, beams=beams, quantize=8),
        "4-bit": partial(measured, batch=batch, beams=beams, quantize=4),
        "batch 1": partial(measured, batch=1, beams=beams, quantize=quantize),
        "1 beam": partial(measured, batch=batch, beams=1, quantize=quantize),
        "4-bit with batch 1": partial(measured, batch=1, beams=beams, quantize=4),
    }
    raise _refusal(need, budgets, reserve, others)


def _place(need: Need, budgets: Mapping[Device, int], reserve: int) -> Placement | None:
    """The first that fits: everything on the GPUs, then as few blocks as possible offloaded."""
    gpus = [device for device in budgets if isinstance(device, int)]
    running: list[Device] = list(gpus) or ["cpu"]
    offload: list[Device] = [d for d in ("cpu", "disk") if d in budgets and d not in running]
    room = {d: budgets.get(d, 0) - (reserve if isinstance(d, int) else 0) for d in running}
    painters: list[Device | None] = list(running) if need.painter_weights else [None]
    for painter in painters:
        split = _balanced(need, room, painter)
        if split is not None:
            return _result(need, budgets, reserve, split, [], painter, running)
    for count in range(1, len(need.units) + 1) if offload else ():
        kept, rest = need.units[:-count], need.units[-count:]
        away = _offloaded(rest, offload, budgets)
        if away is None:
            continue
        for painter in painters:
            split = _fill(need, kept, _net(need, room, painter, rest), 1.0)
            if split is not None:
                return _result(need, budgets, reserve, split, away, painter, running)
    return None


def _net(
    need: Need, room: Mapping[Device, int], painter: Device | None, offloaded: Sequence[Unit] = ()
) -> dict[Device, int]:
    """The room that is left for blocks, once what is fixed on each device is taken off."""
    main = next(iter(room))
    net = {}
    for device, bytes_ in room.items():
        net[device] = bytes_ - need.activations(device == main, device == painter)
        if device == main:
            net[device] -= need.fixed + sum(unit.cache for unit in offloaded)
            # An offloaded block's weights pass through the main device, one block at a time.
            net[device] -= max((unit.weights for unit in offloaded), default=0)
        if device == painter:
            net[device] -= need.painter_weights
    return net


def _fill(
    need: Need, units: Sequence[Unit], net: Mapping[Device, int], share: float
) -> list[Device] | None:
    """A device for each block: each device in order, up to `share` of its room. None = no place."""
    if any(bytes_ < 0 for bytes_ in net.values()):
        return None
    devices = iter(net)
    device = next(devices)
    left = net[device] * share
    placed: list[Device] = []
    for unit in units:
        while unit.weights + unit.cache > left:
            following = next(devices, None)
            if following is None:
                return None
            device, left = following, net[following] * share
        left -= unit.weights + unit.cache
        placed.append(device)
    return placed


def _balanced(
    need: Need, room: Mapping[Device, int], painter: Device | None
) -> list[Device] | None:
    """The split with the smallest share of each device's room, so that all have headroom left."""
    net = _net(need, room, painter)
    best = _fill(need, need.units, net, 1.0)
    if best is None:
        return None
    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        split = _fill(need, need.units, net, middle)
        if split is None:
            low = middle
        else:
            best, high = split, middle
    return best


def _offloaded(
    units: Sequence[Unit], offload: Sequence[Device], budgets: Mapping[Device, int]
) -> list[Device] | None:
    left = {device: budgets[device] for device in offload}
    placed: list[Device] = []
    for unit in units:
        device = next((d for d in offload if unit.weights <= left[d]), None)
        if device is None:
            return None
        left[device] -= unit.weights
        placed.append(device)
    return placed


def _result(
    need: Need,
    budgets: Mapping[Device, int],
    reserve: int,
    split: list[Device],
    away: list[Device],
    painter: Device | None,
    running: list[Device],
) -> Placement:
    main = running[0]
    device_map: dict[str, Device] = dict.fromkeys(need.fixed_names, main)
    weights = dict.fromkeys([*running, *away], 0)
    cache = dict.fromkeys([*running, *away], 0)
    for unit, device in zip(need.units, [*split, *away], strict=True):
        device_map[unit.name] = device
        weights[device] += unit.weights
        # Keys and values live where a block runs, not where its weights rest.
        cache[device if device in running else main] += unit.cache
    weights[main] += need.fixed
    if painter is not None:
        weights[painter] += need.painter_weights
    in_flight = max((u.weights for u in need.units[len(split) :]), default=0) if away else 0
    uses = []
    for device in weights:
        used = device in running and (weights[device] > 0 or device == main)
        activations = need.activations(device == main, device == painter) if used else 0
        uses.append(
            DeviceUse(
                device,
                weights[device],
                cache[device],
                activations + (in_flight if device == main else 0),
                reserve if isinstance(device, int) else 0,
                None if device == "disk" else budgets.get(device, 0),
            )
        )
    return Placement(device_map, main, painter, tuple(uses))


def _refusal(
    need: Need,
    budgets: Mapping[Device, int],
    reserve: int,
    others: Mapping[str, Callable[[], Need]],
) -> ModelError:
    fits = [name for name, other in others.items() if _place(other(), budgets, reserve) is not None]
    main = next(iter(budgets))
    step = GIB // 10
    # More room on the main device always helps in the end, since everything may stand there.
    few, many = 0, 1
    while _place(need, {**budgets, main: budgets[main] + many * step}, reserve) is None:
        few, many = many, 2 * many
    while many - few > 1:
        middle = (few + many) // 2
        if _place(need, {**budgets, main: budgets[main] + middle * step}, reserve) is None:
            few = middle
        else:
            many = middle
    given = sum(size for device, size in budgets.items() if device != "disk")
    where = "the CPU" if main == "cpu" else f"device {main}"
    hint = f"add {gib(many * step)} to {where}"
    if fits:
        hint += "; " + ", ".join(fits) + " would fit"
    if "cpu" not in budgets:
        hint += "; or offload the rest, which is slow: add cpu:64GiB to the memory"
    return ModelError(
        f"the model does not fit: weights {gib(need.weights)}, keys and values {gib(need.cache)}, "
        f"activations up to {gib(need.activations(True, True))} on a device; "
        f"available memory {gib(given)}",
        hint=hint,
    )
