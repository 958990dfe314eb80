"""Where a model of transformers goes, and with what batch, before its weights are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

from emu2eval.adapters.huggingface.budget import decoder_of, known, measured, weights_of
from emu2eval.adapters.huggingface.checkpoint import TransformersCheckpoint
from emu2eval.adapters.huggingface.settings import HuggingFaceSettings
from emu2eval.adapters.local import placement
from emu2eval.adapters.local.bits import Bits
from emu2eval.adapters.local.headers import Weight
from emu2eval.adapters.local.parallel import degrees
from emu2eval.adapters.local.placement import Demand, Measured
from emu2eval.adapters.memory import MOST_AT_ONCE, Device, MemoryPlan
from emu2eval.errors import UserError


@dataclass(frozen=True)
class Sizes:
    """What of a checkpoint and its settings decides its memory."""

    checkpoint: TransformersCheckpoint
    settings: HuggingFaceSettings

    @cached_property
    def weights(self) -> tuple[Weight, ...]:
        own = self.checkpoint
        return weights_of(own.path, own.config, own.released, own.code)

    def measured(self, dtype: torch.dtype) -> Measured:
        own = self.settings
        shares = own.reuse and own.attention in (None, "sdpa")
        return measured(self.checkpoint.config, self.weights, dtype, reuse=own.reuse, shares=shares)

    @cached_property
    def counted(self) -> bool:
        """Whether all that grows with a batch is known, so that a batch can be decided by it."""
        own = self.settings
        return own.attention in (None, "sdpa") and known(self.checkpoint.config)

    def planned(
        self,
        demand: Demand,
        memory: Mapping[Device, int],
        dtype: torch.dtype,
        most: int | None,
        image: int | None,
    ) -> MemoryPlan:
        """Raises DoesNotFit. most: the model's context; image: positions of an image."""
        bits: tuple[Bits, ...] = () if self._quantized else (8, 4)
        precision, need = str(dtype).removeprefix("torch."), self.measured(dtype)
        fixed, titles, ranks = "embeddings, lm_head", self._titles, self.settings.ranks
        layers = next((prefix for prefix, title in titles.items() if title == "layers"), None)
        if ranks > 1 and layers is not None and any(isinstance(each, int) for each in memory):
            decoder = decoder_of(self.checkpoint.config)
            ranked = placement.over_ranks(need, demand, memory, ranks, layers, degrees(decoder))
            titles = {**titles, layers: f"1/{ranks} of layers"}
            uses = [use for one in ranked for use in placement.described(one, fixed, titles)]
            found = ranked[0]
        else:
            found = placement.placed(need, demand, memory, bits=bits)
            uses = [*placement.described(found, fixed, titles)]
        return MemoryPlan(
            tuple(uses),
            precision if demand.quantize is None else f"{demand.quantize}-bit",
            demand.positions,
            image,
            demand.batch,
            demand.beams,
            most,
            found.offloaded,
        )

    def chosen(
        self, demand: Demand, gpus: tuple[int, ...], dtype: torch.dtype, grows: bool
    ) -> dict[Device, int] | None:
        """The fewest of the GPUs that hold it, with the bytes that weights may take of each beside the
        demand's batch, or where that grows the largest. None where that cannot be said, or they do not."""
        try:
            need = self.measured(dtype)
            some = placement.fewest_gpus(gpus, need, demand)
            sizes = [demand.batch, 1]
            if grows:
                sizes = [1 << n for n in reversed(range(MOST_AT_ONCE.bit_length()))]
            for size in sizes:
                found = placement.place(need(replace(demand, batch=size)), some)
                if found is not None:
                    return {
                        use.device: some[use.device] - use.total + use.weights
                        for use in found.devices
                    }
        except (UserError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            # A plan of a configuration of somebody else's; loading tells what is wrong with it.
            pass
        return None

    @property
    def _quantized(self) -> bool:
        return getattr(self.checkpoint.config, "quantization_config", None) is not None

    @cached_property
    def _titles(self) -> dict[str, str]:
        """Numbered modules, the decoder's last."""
        sizes: dict[str, int] = {}
        for weight in self.weights:
            if weight.block is not None:
                sizes[weight.block[0]] = sizes.get(weight.block[0], 0) + weight.nbytes
        own = max(sizes, key=lambda prefix: sizes[prefix], default=None)
        vision = [p for p in sizes if p != own and ("vis" in p or "image" in p)]
        titles = {f"{prefix}.": "vision" for prefix in vision[:1]}
        return titles if own is None else {**titles, f"{own}.": "layers"}


def context(config: Any) -> int | None:
    """The positions that the decoder was trained for."""
    return getattr(decoder_of(config), "max_position_embeddings", None)
