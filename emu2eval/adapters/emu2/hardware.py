"""The settings of a model's YAML that say where and how it runs, turned into a dtype and a placement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from emu2eval.adapters.emu2.checkpoint import Checkpoint, load_model, load_painter
from emu2eval.adapters.emu2.config import Emu2Config
from emu2eval.adapters.emu2.memory import Device, parse_memory
from emu2eval.adapters.emu2.model import Emu2
from emu2eval.adapters.emu2.painter import Painter
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


@dataclass(frozen=True, slots=True)
class Hardware:
    """dtype: bfloat16, float32 or float16 (None = bfloat16 on a GPU, float32 on a CPU).

    memory: what each device gives, such as "24GiB,24GiB,cpu:64GiB". device_map: instead of it one device
    ("cpu", "cuda:1"), or a device for each block. Neither = all GPUs with what is free of them, or the CPU.
    quantize: 8 or 4 bits for the language layers. offload_folder: where a pickle's blocks go on "disk".
    """

    dtype: str | None = None
    device_map: Mapping[str, Device] | str | None = None
    memory: str | None = None
    quantize: int | None = None
    offload_folder: str | None = None

    def model(
        self,
        checkpoint: Checkpoint,
        *,
        positions: int,
        batch: int = 1,
        beams: int = 1,
        new_tokens: int = 0,
    ) -> tuple[Emu2, Placement | None]:
        """The model on its devices, placed for prompts of so many positions; see `placement.plan`."""
        bits = self.bits()
        placement = self.placement(
            checkpoint.config,
            positions=positions,
            batch=batch,
            beams=beams,
            new_tokens=new_tokens,
        )
        model = load_model(
            checkpoint,
            dtype=self.torch_dtype(placement),
            placement=placement,
            quantize=bits,
            offload_folder=Path(self.offload_folder) if self.offload_folder else None,
        )
        return model, placement

    def painter(
        self, checkpoint: Checkpoint, placement: Placement | None, safety: bool = False
    ) -> Painter:
        """The visual decoder, on the device that the placement left room on."""
        device = None if placement is None else placement.painter
        if device is None and placement is not None:
            device = placement.main
        dtype = self.torch_dtype(placement)
        return load_painter(checkpoint, dtype=dtype, device=device, safety=safety)

    def bits(self) -> Bits | None:
        return None if self.quantize is None else check_bits(self.quantize)

    def torch_dtype(self, placement: Placement | None) -> torch.dtype:
        if self.dtype is not None:
            return named_dtype(self.dtype)
        main = placement.main if placement is not None else "cpu"
        return torch.float32 if str(main) == "cpu" else torch.bfloat16

    def placement(
        self, config: Emu2Config, *, positions: int, batch: int, beams: int, new_tokens: int = 0
    ) -> Placement | None:
        """None = all of it on the CPU. Raises ConfigError or ModelError."""
        if self.memory is not None and self.device_map is not None:
            raise ConfigError("memory and device_map are both set", hint="leave one of them out")
        if isinstance(self.device_map, str) and self.device_map != "auto":
            return _single(self.device_map)
        if isinstance(self.device_map, Mapping):
            return _mapped(self.device_map)
        memory = parse_memory(self.memory) if self.memory is not None else _free()
        gpus = [device for device in memory if isinstance(device, int)]
        if self.memory is not None and len(gpus) > torch.cuda.device_count():
            raise ConfigError(
                f"memory {self.memory!r} is for {len(gpus)} GPUs; "
                f"this machine has {torch.cuda.device_count()}"
            )
        if not memory:
            return None
        default = torch.bfloat16 if gpus else torch.float32
        return plan(
            config,
            memory,
            positions=positions,
            batch=batch,
            beams=beams,
            new_tokens=new_tokens,
            dtype=named_dtype(self.dtype) if self.dtype is not None else default,
            quantize=self.bits(),
        )


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
    return Placement({"": place}, place, None, ())


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
    return Placement(device_map, main, None, ())
