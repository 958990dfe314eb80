"""Which part of a model goes to which device, worked out before a weight is read and without a GPU.

Whole blocks only, in order, so that a pass crosses from device to device as seldom as possible. Counted are
weights, keys and values, activations and what paints images, if anything does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from emu2eval.adapters.local.bits import Bits
from emu2eval.adapters.local.cache import ROOM, ROOM_OF_BEAMS
from emu2eval.adapters.memory import GIB, RESERVE, Device, DeviceUse, gib
from emu2eval.errors import DoesNotFit


@dataclass(frozen=True, slots=True)
class Unit:
    """A block that stays whole. cache: its keys and values."""

    name: str
    weights: int
    cache: int = 0


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes. fixed: weights of what stays on the main device; units: the blocks, in the order they run.

    main_activations: those that only the main device has, such as logits and images' features.
    """

    fixed_names: tuple[str, ...]
    fixed: int
    units: tuple[Unit, ...]
    block_activations: int
    main_activations: int
    painter_weights: int = 0
    painter_activations: int = 0

    @property
    def weights(self) -> int:
        return self.fixed + sum(unit.weights for unit in self.units) + self.painter_weights

    @property
    def cache(self) -> int:
        return sum(unit.cache for unit in self.units)

    def activations(self, main: bool, painter: bool) -> int:
        """Of a device that runs blocks. Reading and painting alternate, so the larger one counts."""
        reading = self.block_activations + (self.main_activations if main else 0)
        return max(reading, self.painter_activations if painter else 0)


@dataclass(frozen=True, slots=True)
class Demand:
    """What memory is set aside for. positions: of a prompt with its answer, of which new_tokens are the
    answer; quantize: bits of the weights."""

    positions: int
    batch: int = 1
    beams: int = 1
    new_tokens: int = 0
    quantize: Bits | None = None


class Measured(Protocol):
    """What a model needs for a demand."""

    def __call__(self, demand: Demand, /) -> Need: ...


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


def placed(
    measured: Measured,
    demand: Demand,
    budgets: Mapping[Device, int],
    reserve: int = RESERVE,
    bits: Sequence[Bits] = (8, 4),
) -> Placement:
    """Raises DoesNotFit with the numbers, and with what would fit.

    reserve: bytes left free on each GPU; bits: to which the weights could be quantized.
    """
    need = measured(demand)
    found = place(need, budgets, reserve)
    if found is not None:
        return found
    one = replace(demand, batch=1)
    others = {
        **{f"{n}-bit": replace(demand, quantize=n) for n in bits},
        "batch 1": one,
        "1 beam": replace(demand, beams=1),
        **{f"{n}-bit with batch 1": replace(one, quantize=n) for n in bits[-1:]},
        f"prompts of {demand.positions // 2:,} positions": replace(
            demand, positions=max(demand.positions // 2, demand.new_tokens + 1)
        ),
    }
    changed = {name: other for name, other in others.items() if other != demand}
    fits: list[str] = []
    for name, each in changed.items():
        # What one change does alone need not be said of two.
        if name.partition(" with ")[0] not in fits and place(measured(each), budgets, reserve):
            fits.append(name)
    raise _refusal(need, budgets, reserve, fits)


def over_ranks(
    measured: Measured,
    demand: Demand,
    budgets: Mapping[Device, int],
    ranks: int,
    layers: str,
    others: Sequence[int] = (),
) -> tuple[Placement, ...]:
    """What each GPU holds where every rank has a share of the language model's layers; the first also paints.

    layers: what the names of these blocks begin with; others: numbers of ranks that are possible. Embeddings
    and head, which are split as well, are counted whole. Of GPUs that are not given, each is as the smallest.
    Raises DoesNotFit.
    """
    gpus = [device for device in budgets if isinstance(device, int)]
    room = min(budgets[device] for device in gpus)
    need = measured(demand)

    def each(need: Need, ranks: int) -> tuple[Placement, ...] | None:
        found = [
            place(_share(need, ranks, layers, device), {device: budgets.get(device, room)})
            for device in [*gpus, *range(len(gpus), ranks)][:ranks]
        ]
        return tuple(one for one in found if one is not None) if all(found) else None

    found = each(need, ranks)
    if found is not None:
        return found
    enough = next((n for n in others if n > ranks and each(need, n)), None)
    fits = [] if enough is None else [f"tensor_parallel: {enough} (on as many GPUs)"]
    if demand.batch > 1 and each(measured(replace(demand, batch=1)), ranks):
        fits.append("batch 1")
    share = _share(need, ranks, layers, gpus[0])
    raise DoesNotFit(
        f"the model does not fit over {ranks} GPUs: weights {gib(share.weights)}, keys and values "
        f"{gib(share.cache)}, activations up to {gib(share.activations(True, True))} on the first; available "
        f"memory {gib(room)}",
        hint=f"{' or '.join(fits)} would fit"
        if fits
        else "use shorter prompts or GPUs with more memory",
    )


def _share(need: Need, ranks: int, layers: str, device: Device) -> Need:
    """Of a rank on this device, rounded up."""
    units = tuple(
        replace(unit, weights=-(-unit.weights // ranks), cache=-(-unit.cache // ranks))
        if unit.name.startswith(layers)
        else unit
        for unit in need.units
    )
    shared = replace(need, units=units)
    return shared if device == 0 else replace(shared, painter_weights=0, painter_activations=0)


def fewest_gpus(gpus: Sequence[int], measured: Measured, demand: Demand) -> dict[Device, int]:
    """The fewest GPUs that hold the model with the demand's batch, else with a batch of one; the largest ones
    first, and all where none are enough. gpus: bytes of each."""
    order = sorted(range(len(gpus)), key=lambda i: -gpus[i])
    if len(gpus) > 1:
        for asked in dict.fromkeys((demand, replace(demand, batch=1))):
            need = measured(asked)
            for count in range(1, len(gpus)):
                some: dict[Device, int] = {i: gpus[i] for i in sorted(order[:count])}
                if place(need, some) is not None:
                    return some
    return dict(enumerate(gpus))


def cached_positions(demand: Demand, remembered: int) -> int:
    """Positions whose keys and values are held at once. remembered: at most, of the latest beginning."""
    prompt, rows = demand.positions - demand.new_tokens, demand.batch * demand.beams
    # Beams share the keys and values of their prompt; each has its own for the answer, room behind it, and
    # a second memory that a layer is moved into when beams change places: half as much covers both.
    moving = max(demand.new_tokens // 2, ROOM_OF_BEAMS) if demand.beams > 1 else 0
    # The beginning that is remembered stays beside prompts that do not share it (`prefix`).
    return (
        demand.batch * (prompt + ROOM)
        + min(prompt, remembered)
        + rows * (demand.new_tokens + moving)
    )


def place(need: Need, budgets: Mapping[Device, int], reserve: int = RESERVE) -> Placement | None:
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


def described(found: Placement, fixed: str, titles: Mapping[str, str]) -> tuple[DeviceUse, ...]:
    """What each device holds, in words too. fixed: what stands on the main device; titles: of numbered
    blocks, by what their names begin with."""
    uses = []
    for use in found.devices:
        shown = [fixed] if use.device == found.main else []
        for prefix, title in titles.items():
            numbers = sorted(
                int(name.removeprefix(prefix))
                for name, where in found.device_map.items()
                if where == use.device and name.startswith(prefix) and name[len(prefix) :].isdigit()
            )
            if numbers:
                shown.append(f"{title} {numbers[0]}–{numbers[-1]}")
        if use.device == found.painter:
            shown.append("UNet, VAE")
        uses.append(replace(use, parts=tuple(shown)))
    return tuple(uses)


_MOST_CARDS = 64
"""Of which a refusal says how many would do."""


def _refusal(
    need: Need, budgets: Mapping[Device, int], reserve: int, fits: Sequence[str]
) -> DoesNotFit:
    """fits: what would, in words."""
    main = next(iter(budgets))
    step = GIB // 10
    # More room on the main device always helps in the end, since everything may stand there.
    few, many = 0, 1
    while place(need, {**budgets, main: budgets[main] + many * step}, reserve) is None:
        few, many = many, 2 * many
    while many - few > 1:
        middle = (few + many) // 2
        if place(need, {**budgets, main: budgets[main] + middle * step}, reserve) is None:
            few = middle
        else:
            many = middle
    given = sum(size for device, size in budgets.items() if device != "disk")
    where = "the CPU" if main == "cpu" else f"device {main}"
    hint = f"add {gib(many * step)} to {where}"
    cards = [size for device, size in budgets.items() if isinstance(device, int)]
    if cards and (enough := _enough(need, cards, reserve)) is not None:
        hint += f"; {enough} x {gib(min(cards))} would fit"
    if fits:
        hint += "; " + ", ".join(fits) + " would fit"
    if "cpu" not in budgets:
        hint += "; or offload the rest, which is slow: add cpu:64GiB to the memory"
    return DoesNotFit(
        f"the model does not fit: weights {gib(need.weights)}, keys and values {gib(need.cache)}, "
        f"activations up to {gib(need.activations(True, True))} on a device; "
        f"available memory {gib(given)}",
        hint=hint,
    )


def _enough(need: Need, cards: Sequence[int], reserve: int) -> int | None:
    """How many cards of the smallest size would do."""
    count = len(cards) + 1
    while count <= _MOST_CARDS:
        if place(need, dict.fromkeys(range(count), min(cards)), reserve) is not None:
            return count
        count += 1
    return None
