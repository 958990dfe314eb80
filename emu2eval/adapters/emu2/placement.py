"""Which part of Emu2 goes to which device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from emu2eval.adapters.emu2.budget import measure
from emu2eval.adapters.emu2.config import Emu2Config
from emu2eval.adapters.local.bits import Bits
from emu2eval.adapters.local.placement import Demand, Measured, Need, Placement, placed
from emu2eval.adapters.memory import RESERVE, Device, parse_memory


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
    Raises DoesNotFit with the numbers, and with what would fit.
    """
    budgets = parse_memory(memory) if isinstance(memory, str) else dict(memory)
    demand = Demand(positions, batch, beams, new_tokens, quantize)
    return placed(measured(config, dtype, painter), demand, budgets, reserve)


def measured(
    config: Emu2Config, dtype: torch.dtype, painter: Mapping[str, Mapping[str, Any]] | None
) -> Measured:
    """What it needs, as `placement.placed` asks for it."""

    def need(demand: Demand) -> Need:
        return measure(
            config,
            positions=demand.positions,
            batch=demand.batch,
            beams=demand.beams,
            new_tokens=demand.new_tokens,
            dtype=dtype,
            quantize=demand.quantize,
            painter=painter,
        )

    return need
