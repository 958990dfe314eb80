"""Images in and out: encoders alone and in batches, the visual decoder, and whether company changes bits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from PIL import Image as PILImage
from torch import Tensor

from emu2eval.adapters.emu2 import sdxl
from emu2eval.adapters.local.encoded import Shown
from emu2eval.media.images import from_pil
from gpu_steps.bench import Bench

TOGETHER = 8
"""Images that the adapters encode at a time."""


def vision(bench: Bench) -> object:
    """Emu2's tower, alone and in batches, and how far the others of a batch move an image's features."""
    size = bench.config.vision.image_size
    images = torch.randn(TOGETHER, 3, size, size)
    found: dict[object, object] = {}
    for count in (1, 2, 4, TOGETHER):
        some = images[:count]
        with bench.peak() as peak:
            took = bench.seconds(partial(_to_host, bench.model.encode_images, some), 3)
        found[count] = {"ms_an_image": took / count * 1e3, **peak}
    found["company"] = _moved(bench.model.encode_images, images)
    photographs = [
        Shown(from_pil(PILImage.effect_noise((640, 480), 60 + i).convert("RGB")), 64)
        for i in range(TOGETHER)
    ]
    encoder = bench.inference(reuse=False).reader.encoder
    took = bench.seconds(lambda: encoder.several(photographs), 2)
    found["photographs"] = {"ms_an_image": took / TOGETHER * 1e3}
    return found


def encoders(bench: Bench) -> object:
    """The same of SigLIP's so400m at 384 pixels, which many models of transformers begin with."""
    import transformers

    hf: Any = transformers
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "image_size": 28}
    if not bench.tiny:
        sizes = {
            "hidden_size": 1152,
            "intermediate_size": 4304,
            "num_hidden_layers": 27,
            "image_size": 384,
        }
    heads = 2 if bench.tiny else 16
    config = hf.SiglipVisionConfig(**sizes, num_attention_heads=heads, patch_size=14)
    with torch.device(bench.device):
        tower = hf.SiglipVisionModel(config).to(bench.dtype).eval()

    def encode(images: Tensor) -> Tensor:
        given = images.to(bench.device, bench.dtype)
        seen: Tensor = tower(pixel_values=given).last_hidden_state
        return seen

    images = torch.randn(TOGETHER, 3, sizes["image_size"], sizes["image_size"])
    found: dict[str, object] = {}
    for count in (1, TOGETHER):
        some = images[:count]
        took = bench.seconds(partial(_to_host, encode, some), 3)
        found[f"{count} at once"] = {"ms_an_image": took / count * 1e3}
    return {**found, "company": _moved(encode, images)}


def _to_host(encode: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    return encode(images).cpu()


def _moved(encode: Callable[[Tensor], Tensor], images: Tensor) -> dict[str, object]:
    """What an image's features are beside those that it has alone."""
    alone = torch.cat([encode(image[None]) for image in images]).float()
    found: dict[str, object] = {"deviation": float(alone.std())}
    for count in (2, 4, TOGETHER):
        batches = [images[at : at + count] for at in range(0, len(images), count)]
        together = torch.cat([encode(some) for some in batches]).float()
        same = (together == alone).flatten(1).all(1)
        found[f"{count} at once"] = {
            "same_bits": int(same.sum()),
            "of": len(images),
            "moved": float((together - alone).abs().max()),
        }
    return found


def _painter(bench: Bench) -> Any:
    """The visual decoder at SDXL's size, with random weights."""
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel

    from emu2eval.adapters.emu2.painter import Painter

    bench.forget_model()
    unet, vae = dict(sdxl.UNET), dict(sdxl.VAE)
    if bench.tiny:
        tiny: Mapping[str, Any] = {
            "block_out_channels": [32, 32, 32],
            "transformer_layers_per_block": [1, 1, 1],
            "attention_head_dim": [2, 2, 2],
            "cross_attention_dim": 32,
            "projection_class_embeddings_input_dim": 32 + 6 * unet["addition_time_embed_dim"],
            "sample_size": 8,
        }
        unet |= tiny
        vae |= {"block_out_channels": [32, 32, 32, 32], "sample_size": 64}
    kinds: Any = (UNet2DConditionModel, AutoencoderKL)
    with torch.device(bench.device):
        made = kinds[0].from_config(unet).to(bench.dtype)
        decoder = kinds[1].from_config(vae).to(bench.dtype)
    scheduler: Any = EulerDiscreteScheduler
    return Painter(made, decoder, scheduler.from_config(dict(sdxl.SCHEDULER)))


def painting(bench: Bench) -> object:
    """A step of the UNet (both halves of the guidance) and the VAE, at SDXL's size."""
    painter = _painter(bench)
    width = painter.unet.config.cross_attention_dim
    found: dict[str, object] = {}
    for layout in ("contiguous", "channels_last"):
        if layout == "channels_last":
            painter.unet.to(memory_format=torch.channels_last)
        for count in (1, 4) if bench.tiny else (1, 2, 4):
            cond = torch.randn(count, 64, width, device=bench.device)

            def paint(steps: int) -> Tensor:
                latents: Tensor = painter.latents(cond, cond[:1] * 0, range(count), steps=steps)
                return latents

            with bench.peak() as peak:
                took = (bench.seconds(lambda: paint(4)) - bench.seconds(lambda: paint(1))) / 3
            found[f"{layout}, {count} at once"] = {"s_a_step_and_image": took / count, **peak}
    latents = paint(1)[:1]
    with bench.peak() as peak:
        found["vae"] = {"s_an_image": bench.seconds(lambda: painter.decode(latents)), **peak}
    return found


def groups(bench: Bench) -> object:
    """Images that are drawn together beside the same drawn alone: bits, after two steps of the UNet."""
    painter = _painter(bench)
    width = painter.unet.config.cross_attention_dim
    count = 4
    cond = torch.randn(count, 64, width, generator=torch.Generator().manual_seed(0))
    found: dict[str, object] = {}
    for layout in ("contiguous", "channels_last"):
        if layout == "channels_last":
            painter.unet.to(memory_format=torch.channels_last)

        def drawn(first: int, last: int) -> Tensor:
            seeds = range(first, last)
            latents: Tensor = painter.latents(cond[first:last], cond[:1] * 0, seeds, steps=2)
            return latents.float()

        alone = torch.cat([drawn(i, i + 1) for i in range(count)])
        again = torch.cat([drawn(i, i + 1) for i in range(count)])
        found[layout] = {
            "deviation": float(alone.std()),
            "alone_again_moved": float((again - alone).abs().max()),
            **{
                f"{size}_at_once_moved": float((drawn(0, size) - alone[:size]).abs().max())
                for size in (2, 4)
            },
        }
    return found
