"""Memory as people write it ("24GiB,24GiB,cpu:64GiB"), and the plan of what a model puts where."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from emu2eval.errors import ConfigError, DoesNotFit
from emu2eval.types import Output, TextOutput

Device = int | str
"""A GPU's number, "cpu" or "disk": what accelerate's device maps hold."""

KIB, MIB, GIB, TIB = (1 << shift for shift in (10, 20, 30, 40))
_UNITS = {
    "kib": KIB,
    "mib": MIB,
    "gib": GIB,
    "tib": TIB,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Z]+)")
_HINT = "one size per GPU, such as 24GiB,24GiB or 4x24GiB; then optionally cpu:64GiB and disk"

RESERVE = int(0.8 * GIB)
"""Left free on every GPU: CUDA's context, its libraries' workspaces and fragmentation."""
TEXT = 32
"""Text tokens taken for one demonstration or question, unless told otherwise."""


MOST_AT_ONCE = 256
"""The largest batch that is planned or tried: beyond it a GPU is busy, and padding costs more."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Prompts that memory is planned for.

    images: in each demonstration and in the query. text_tokens: of each; new_tokens: of the answer.
    positions: of a whole prompt with its answer, where that is known; the shots, images and texts are then
    left aside. batch, beams: requests at a time, and beams of the search; None = the model's own.
    """

    shots: int = 0
    images: int = 1
    text_tokens: int = TEXT
    new_tokens: int = 10
    positions: int | None = None
    batch: int | None = None
    beams: int | None = None


@dataclass(frozen=True, slots=True)
class DeviceUse:
    """What one device holds, in bytes. budget: what was given (None = no limit); parts: in words."""

    device: Device
    weights: int
    cache: int
    activations: int
    reserve: int
    budget: int | None
    parts: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        return self.weights + self.cache + self.activations + self.reserve


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Which device holds what, for prompts of so many positions, answers included.

    precision: of the weights, such as "bfloat16" or "4-bit"; positions: None for a model that only draws.
    image: positions that an image takes, where each takes as many. most: the context that the model was
    trained for, where it is known. offloaded: devices whose weights are copied to another for every pass.
    """

    devices: tuple[DeviceUse, ...]
    precision: str
    positions: int | None
    image: int | None
    batch: int
    beams: int
    most: int | None = None
    offloaded: tuple[Device, ...] = ()


@dataclass(frozen=True, slots=True)
class ReplicaFit:
    """The fewest GPUs on which a replica fits. replicas: how many of them the devices hold; batch: how many
    requests a replica takes at a time; memory: what each of its devices then holds."""

    gpus: int
    replicas: int
    batch: int
    memory: MemoryPlan


Planned = Callable[[Workload, Mapping[Device, int]], MemoryPlan | None]
"""What each device would hold; None = nothing can be said. Raises DoesNotFit."""


def fewest(
    plan: Planned, workload: Workload, devices: Sequence[int], exactly: int | None = None
) -> ReplicaFit | None:
    """The fewest GPUs on which the workload's batch fits. Where it says none: the model's usual one, or,
    where no number of GPUs is enough, a single request; then the largest power of two. None = nothing is
    planned.

    devices: bytes of each GPU; where they differ, each counts as the smallest, since any may be given to a
    replica. exactly: so many GPUs and no others. Raises DoesNotFit.
    """
    if not devices:
        return None

    def on(gpus: int, batch: int | None) -> MemoryPlan | None:
        asked = replace(workload, batch=batch)
        return plan(asked, dict.fromkeys(range(gpus), min(devices)))

    refused: DoesNotFit | None = None
    for batch in (None, 1) if workload.batch is None else (workload.batch,):
        for gpus in range(1, len(devices) + 1) if exactly is None else (exactly,):
            try:
                found = on(gpus, batch)
            except DoesNotFit as error:
                refused = error
                continue
            if found is None:
                return None
            if workload.batch is None:
                found = largest(partial(on, gpus), found)
            return ReplicaFit(gpus, len(devices) // gpus, found.batch, found)
    assert refused is not None
    raise refused


HEADROOM = 1.25
"""How much longer than the longest of some prompts the others are taken to be."""


def expected(
    asked: Iterable[tuple[int | None, Output]], most: int | None = None, room: int = 0
) -> Workload | None:
    """asked: the positions of a prompt with its answer, and what is wanted. most: the model's context; room:
    tokens that a text may take beside its answer's. None where positions are not counted."""
    longest, new = 0, 1
    beams: set[int | None] = set()
    for positions, output in asked:
        if positions is None:
            return None
        longest = max(longest, positions)
        if isinstance(output, TextOutput):
            new = max(new, output.max_new_tokens + room)
            beams.add(output.beams)
    if not longest:
        return None
    positions = max(new + 1, min(int(HEADROOM * longest), most or sys.maxsize))
    known = [each for each in beams if each is not None]
    return Workload(
        positions=positions,
        new_tokens=new,
        beams=max(known) if known and len(known) == len(beams) else None,
    )


def largest(plan: Callable[[int], MemoryPlan | None], fitting: MemoryPlan) -> MemoryPlan:
    """The plan of the largest power of two that fits, up to `MOST_AT_ONCE`; fitting: one that does."""
    size = 1 << fitting.batch.bit_length()
    while size <= MOST_AT_ONCE:
        try:
            more = plan(size)
        except DoesNotFit:
            break
        if more is None or len(more.offloaded) > len(fitting.offloaded):
            break
        fitting, size = more, 2 * size
    return fitting


def parse_memory(text: str) -> dict[Device, int]:
    """GPUs by number, in order, then "cpu" and "disk"; bytes. Raises ConfigError.

    >>> parse_memory("2x80GB,cpu:1.5GiB,disk")[1], parse_memory("24GiB,cpu:1.5GiB")["cpu"]
    (80000000000, 1610612736)
    """
    budgets: dict[Device, int] = {}
    gpus = 0
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, _, size = entry.rpartition(":") if ":" in entry else ("", "", entry)
        name = name.strip().lower()
        if entry.lower() in ("disk", "cpu"):
            name, size = entry.lower(), ""
        if name in ("cpu", "disk"):
            if name == "cpu" and not size.strip():
                raise ConfigError(f"memory {text!r}: cpu needs a size", hint="such as cpu:64GiB")
            if name in budgets:
                raise ConfigError(f"memory {text!r} names {name} twice", hint=_HINT)
            budgets[name] = parse_size(size, text) if size.strip() else sys.maxsize
        elif name == "":
            count, times, each = size.partition("x")
            many = int(count) if times and count.strip().isdigit() else 1
            for _ in range(many):
                budgets[gpus] = parse_size(each if times else size, text)
                gpus += 1
        elif name.isdigit() and int(name) == gpus:
            budgets[gpus] = parse_size(size, text)
            gpus += 1
        else:
            raise ConfigError(f"memory {text!r}: {name!r} is not the next device", hint=_HINT)
    if not gpus and "cpu" not in budgets:
        raise ConfigError(f"memory {text!r} names no computing device", hint=_HINT)
    ordered = [d for d in budgets if isinstance(d, int)] + [
        d for d in ("cpu", "disk") if d in budgets
    ]
    return {device: budgets[device] for device in ordered}


def parse_size(text: str, whole: str | None = None) -> int:
    """Bytes of "24GiB" (1024³ each) or "24GB" (1000³ each). Raises ConfigError."""
    match = _SIZE.fullmatch(text.strip())
    unit = match.group(2).lower() if match else ""
    if match is None or unit not in _UNITS or not float(match.group(1)):
        inside = (
            f"memory {whole!r}: " if whole is not None and whole.strip() != text.strip() else ""
        )
        raise ConfigError(f"{inside}{text.strip()!r} is not a memory size", hint=_HINT)
    return int(float(match.group(1)) * _UNITS[unit])


def gib(size: int) -> str:
    """
    >>> gib(15 * 1024**3)
    '15.0 GiB'
    """
    return f"{size / GIB:,.1f} GiB"
