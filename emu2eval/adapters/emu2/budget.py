"""What Emu2 takes of a device's memory, in bytes: counted where it can be, estimated where it cannot.

Weights, keys and values are exact, from the shapes of the modules on the meta device. Activations are upper
estimates of what is alive at once in the widest step; a factor says what it counts.
"""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from emu2eval.adapters.emu2 import sdxl
from emu2eval.adapters.emu2.config import Emu2Config
from emu2eval.adapters.emu2.model import Emu2
from emu2eval.adapters.emu2.painter import vae_factor
from emu2eval.adapters.emu2.quantize import is_quantizable
from emu2eval.adapters.local.bits import Bits, quantized_bytes
from emu2eval.adapters.local.placement import Demand, Need, Unit, cached_positions
from emu2eval.adapters.local.prefix import CACHE_BYTES
from emu2eval.errors import ModelError

IMAGES_AT_A_TIME = 8
"""Images that the vision tower encodes in one pass."""


def measure(
    config: Emu2Config,
    *,
    positions: int,
    batch: int,
    beams: int,
    new_tokens: int,
    dtype: torch.dtype,
    quantize: Bits | None,
    painter: Mapping[str, Mapping[str, Any]] | None = None,
) -> Need:
    """What a model needs for a batch of prompts of `positions` tokens, the answers included.

    painter: configurations of "unet" and "vae", as a checkpoint holds them ({} = it has none,
    None = Emu2-Gen's as published).
    """
    units, names, fixed = _weights(config, dtype, quantize)
    per_position = 2 * config.decoder.hidden_size * dtype.itemsize
    remembered = CACHE_BYTES // (per_position * config.decoder.num_hidden_layers)
    cached = cached_positions(Demand(positions, batch, beams, new_tokens), remembered)
    with_cache = tuple(
        Unit(u.name, u.weights, cached * per_position if u.name.startswith("decoder.") else 0)
        for u in units
    )
    sizes = {"unet": sdxl.UNET, "vae": sdxl.VAE, **(painter or {})}
    paints = config.variant == "gen" if painter is None else "unet" in painter
    painting = _painting(sizes["unet"], sizes["vae"], batch, dtype) if paints else (0, 0)
    return Need(
        names,
        fixed,
        with_cache,
        max(
            _vision_activations(config, dtype),
            _decoder_activations(config, positions, batch, dtype),
        ),
        # Logits in the working dtype, in float32, and their log-softmax.
        batch * beams * config.decoder.vocab_size * (dtype.itemsize + 2 * 4),
        *painting,
    )


@lru_cache(maxsize=8)
def _weights(
    config: Emu2Config, dtype: torch.dtype, quantize: Bits | None
) -> tuple[tuple[Unit, ...], tuple[str, ...], int]:
    """Its blocks, and the names and bytes of what is in none; a plan asks for one batch after the other."""
    model = _without_weights(config)
    names = tuple(_top_names(model))
    fixed = sum(_bytes(name, model, dtype, quantize) for name in names)
    return tuple(_units(model, dtype, quantize)), names, fixed


@lru_cache(maxsize=4)
def _without_weights(config: Emu2Config) -> Emu2:
    """Its modules on the meta device."""
    with torch.device("meta"):
        return Emu2(config)


def _units(model: Emu2, dtype: torch.dtype, quantize: Bits | None) -> list[Unit]:
    names = [f"visual.blocks.{i}" for i in range(len(model.visual.blocks))]
    names += [f"decoder.lm.model.layers.{i}" for i in range(len(model.decoder.lm.model.layers))]
    return [Unit(name, _bytes(name, model, dtype, quantize)) for name in names]


def _top_names(model: Emu2) -> list[str]:
    """Everything that is in no block: embeddings, bridges, final norm, lm_head."""
    within = ("visual.blocks.", "decoder.lm.model.layers.")
    names = [n for n, _ in model.named_parameters() if not n.startswith(within)]
    modules = [n.removesuffix(".weight").removesuffix(".bias") for n in names]
    return [*dict.fromkeys(modules), "decoder.lm.model.rotary_emb"]


def _bytes(name: str, model: nn.Module, dtype: torch.dtype, quantize: Bits | None) -> int:
    parent, _, leaf = name.rpartition(".")
    inside = getattr(model.get_submodule(parent), leaf)
    if isinstance(inside, nn.Parameter):
        return inside.numel() * dtype.itemsize
    return sum(
        quantized_bytes(tensor.shape, quantize)
        if quantize is not None and is_quantizable(f"{name}.{inner}")
        else tensor.numel() * dtype.itemsize
        for inner, tensor in inside.named_parameters()
    )


def _decoder_activations(config: Emu2Config, positions: int, batch: int, dtype: torch.dtype) -> int:
    """Of reading a batch of prompts at once, in the widest of a block's steps."""
    sizes = config.decoder
    # Attention: the residual, the normed input, q, k and v before and after rotation, the output.
    # MLP: the residual, the normed input and the output, with gate, up and their product.
    width = max(9 * sizes.hidden_size, 3 * sizes.hidden_size + 3 * sizes.intermediate_size)
    norm = 2 * 4 * sizes.hidden_size  # in float32
    # Keys and values of a shared prefix are joined with those of each row, one layer at a time.
    joined = 2 * sizes.hidden_size * dtype.itemsize
    mask = positions * (1 + dtype.itemsize)
    return batch * positions * (width * dtype.itemsize + norm + joined + mask)


def _vision_activations(config: Emu2Config, dtype: torch.dtype) -> int:
    sizes = config.vision
    tokens = IMAGES_AT_A_TIME * (1 + sizes.grid**2)
    # As above; the MLP holds its hidden layer before and after the activation.
    return tokens * max(9 * sizes.width, 3 * sizes.width + 2 * sizes.hidden) * dtype.itemsize


def _painting(
    unet_config: Mapping[str, Any], vae_config: Mapping[str, Any], batch: int, dtype: torch.dtype
) -> tuple[int, int]:
    """(weights, activations) of the visual decoder."""
    try:
        unet, vae = (json.dumps(dict(each), sort_keys=True) for each in (unet_config, vae_config))
        weights, activations = _painted(unet, vae, batch, dtype)
        return operator.index(weights), operator.index(activations)
    except Exception as error:  # diffusers raises whatever it stumbles over
        raise ModelError(
            f"the visual decoder cannot be made from its configuration: {error}"
        ) from None


@lru_cache(maxsize=64)
def _painted(unet_config: str, vae_config: str, batch: int, dtype: torch.dtype) -> tuple[int, int]:
    """As `_painting`, of configurations in JSON."""
    unet, vae = _painter_without_weights(unet_config, vae_config)
    weights: int = sum(p.numel() * dtype.itemsize for m in (unet, vae) for p in m.parameters())
    sample = unet.config.sample_size or sdxl.UNET["sample_size"]
    latents = sample**2 if isinstance(sample, int) else math.prod(sample)
    # The UNet runs both halves of the guidance: its skip connections and the widest block come to
    # about 64 feature maps of the first width.
    denoising = 2 * batch * 64 * unet.config.block_out_channels[0] * latents * dtype.itemsize
    # The VAE decodes one image at a time; at full size about eight maps of its second width are
    # alive, the workspace of the convolutions among them.
    channels = vae.config.block_out_channels[:2][-1]
    decoding = 8 * channels * latents * vae_factor(vae.config) ** 2 * dtype.itemsize
    return weights, max(denoising, decoding)


@lru_cache(maxsize=4)
def _painter_without_weights(unet_config: str, vae_config: str) -> tuple[Any, Any]:
    """UNet and VAE on the meta device."""
    import diffusers

    kinds: tuple[Any, Any] = (diffusers.UNet2DConditionModel, diffusers.AutoencoderKL)
    with torch.device("meta"):
        unet = kinds[0].from_config(json.loads(unet_config))
        vae = kinds[1].from_config(json.loads(vae_config))
    return unet, vae
