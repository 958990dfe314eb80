"""What a pipeline of diffusers takes of its device's memory: weights by headers, activations estimated."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from emu2eval.adapters.local.configfile import read_json
from emu2eval.adapters.local.headers import weights_in
from emu2eval.adapters.memory import RESERVE, Device, DeviceUse, MemoryPlan, gib
from emu2eval.errors import DoesNotFit

_MAPS = 64
"""Feature maps of the first width that a UNet's skip connections and its widest block come to."""
_WIDTHS = 16
"""Vectors of the width that a transformer's block holds of a token: its streams, attention and MLP."""
_TEXT = 512
"""Tokens of the text beside a transformer's patches."""
_PIXEL_MAPS = 8
"""Maps of the second width, at full size, that the VAE decodes with, convolutions' workspace among them."""
_SIZE = 1024
"""Pixels of a side where nothing says any."""


def planned(
    folder: Path,
    dtype: torch.dtype,
    size: tuple[int | None, int | None],
    memory: Mapping[Device, int],
) -> MemoryPlan:
    """All of it on the first device, for images one at a time. size: of them, width and height.

    Raises DoesNotFit.
    """
    parts = {path.name: weights_in(path) for path in sorted(folder.iterdir()) if path.is_dir()}
    weights = sum(weight.bytes_in(dtype) for part in parts.values() for weight in part)
    device, given = next(iter(memory.items()))
    use = DeviceUse(
        device,
        weights,
        0,
        _activations(folder, dtype, size),
        RESERVE if isinstance(device, int) else 0,
        given,
        tuple(name.replace("_", " ") for name, part in parts.items() if part),
    )
    if use.total > given:
        raise DoesNotFit(
            f"the pipeline does not fit: weights {gib(use.weights)}, activations up to "
            f"{gib(use.activations)}; available memory {gib(given)}",
            hint=f"a device of {gib(use.total)}, smaller images (model.settings.width and height), or a "
            "smaller pipeline; it runs on one device",
        )
    return MemoryPlan((use,), str(dtype).removeprefix("torch."), None, None, 1, 1)


def _activations(folder: Path, dtype: torch.dtype, size: tuple[int | None, int | None]) -> int:
    """Of the widest step: both halves of the guidance through the denoiser, or an image out of the VAE."""
    vae = _config(folder / "vae")
    widths = _numbers(vae, "block_out_channels") or [128, 256, 512, 512]
    factor = 2 ** (len(widths) - 1)
    denoiser = _config(folder / "unet") or _config(folder / "transformer")
    side = (_numbers(denoiser, "sample_size") or [0])[0] * factor or _SIZE
    width, height = (each or side for each in size)
    latents = (width // factor) * (height // factor)
    if maps := _numbers(denoiser, "block_out_channels"):
        each = _MAPS * maps[0] * latents
    else:
        heads = (_numbers(denoiser, "num_attention_heads") or [24])[0]
        inner = heads * (_numbers(denoiser, "attention_head_dim") or [64])[0]
        patch = (_numbers(denoiser, "patch_size") or [2])[0]
        each = _WIDTHS * inner * (latents // patch**2 + _TEXT)
    decoding = _PIXEL_MAPS * widths[:2][-1] * width * height
    return int(max(2 * each, decoding) * dtype.itemsize)


def _config(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    return dict(read_json(file)) if file.is_file() else {}


def _numbers(config: Mapping[str, Any], name: str) -> list[int]:
    value = config.get(name)
    return [
        each for each in (value if isinstance(value, list) else [value]) if isinstance(each, int)
    ]
