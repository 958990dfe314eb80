"""A digest of weights in memory: quick, the same on every device, another one after any step of training."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

BLOCK = 1 << 18
"""Words of 8 bytes that are summed at a time, 2 MiB."""
_LOW = (1 << 32) - 1
_GOLDEN = -0x61C8864680B583EB  # 2 ** 64 divided by the golden ratio, as a signed number


def weights_digest(model: nn.Module) -> str:
    """Hex sha256 over names, kinds, shapes and sums of the weights, and which adapters of PEFT act on them.

    Each block of a tensor counts by a sum of its words, times odd numbers that depend on the place, modulo
    2 ** 64, made where the tensor lies: no weights move, and any one that changes changes it. It is no
    protection against who wants two models to look alike.
    """
    digest = hashlib.sha256()
    seen: dict[tuple[Any, ...], str] = {}
    factors: dict[torch.device, Tensor] = {}
    for name, tensor in sorted(model.state_dict().items()):
        if not isinstance(tensor, Tensor):
            continue  # what a layer of bitsandbytes says of itself
        place = (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        # Tied weights are summed once.
        same = seen.setdefault(place, name) if tensor.numel() else name
        digest.update(f"{name}\n{same}\n{tensor.dtype}\n{tuple(tensor.shape)}\n".encode())
        if same == name:
            for total in _sums(tensor.detach(), factors):
                digest.update(total)
    for line in _adapters(model):
        digest.update(f"{line}\n".encode())
    return digest.hexdigest()


def _adapters(model: nn.Module) -> Iterator[str]:
    for name, module in model.named_modules():
        active = getattr(module, "active_adapters", None)
        if active is not None and not callable(active):
            acts = [getattr(module, key, None) for key in ("scaling", "disable_adapters", "merged")]
            yield f"{name} {active} {acts}"


@torch.no_grad()
def _sums(tensor: Tensor, factors: dict[torch.device, Tensor]) -> Iterator[bytes]:
    flat = tensor.contiguous().reshape(-1).view(torch.uint8)
    if tensor.device not in factors:
        places = torch.arange(1, BLOCK + 1, dtype=torch.int64, device=tensor.device)
        factors[tensor.device] = _mixed(places * _GOLDEN) * 2 + 1
    odd = factors[tensor.device]
    whole = len(flat) - len(flat) % 8
    totals = []
    # Not every tensor begins where a word may.
    aligned = flat.data_ptr() % 8 == 0
    for at in range(0, whole, BLOCK * 8):
        part = flat[at : min(at + BLOCK * 8, whole)]
        words = (part if aligned else part.clone()).view(torch.int64)
        totals.append((_mixed(words) * odd[: len(words)]).sum())
    if totals:
        yield torch.stack(totals).cpu().numpy().tobytes()
    yield bytes(flat[whole:].tolist())


def _mixed(words: Tensor) -> Tensor:
    """High bits go into low ones: a product modulo 2 ** 64 loses what stands too high."""
    return words ^ ((words >> 32) & _LOW)
