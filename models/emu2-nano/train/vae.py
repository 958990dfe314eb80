"""Stage 5: an autoencoder between 64 x 64 images and 8 x 8 latents of 8 channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from loop import Stage, Workspace, run
from scenes import SIZE, Scenes
from torch import Tensor, nn

BATCH = 32
CROP = 32
KL = 2e-4  # weight of the divergence: latents of about unit size in which small errors do not show
NOISE = 0.3  # most noise on the latents that the decoder learns to read, in their deviations
SAMPLE = 512  # images by which the size of the latents is measured
CROPS = Stage("vae-crops", 1800, 3e-3, 1e-3, look=300)
WHOLE = Stage("vae", 600, 1.5e-3, 2e-5, warmup=20, look=100)


def build() -> Any:
    """A small AutoencoderKL (0.66 million parameters), untrained."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 16, 32, 64),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=8,
        norm_num_groups=4,
        mid_block_add_attention=False,
        sample_size=SIZE,
        scaling_factor=1.0,
    )


def train(
    vae: Any,
    published: Scenes,
    drawn: Scenes,
    check: Scenes,
    work: Workspace,
    crops: Stage = CROPS,
    whole: Stage = WHOLE,
) -> None:
    """First all of it on pieces around the shapes, then the decoder alone on whole images."""
    # Channels last is what convolutions this small are quickest with on a CPU.
    module: nn.Module = vae.to(memory_format=torch.channels_last)

    def images(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        parts = []
        for scenes, count in ((published, BATCH // 4), (drawn, BATCH - BATCH // 4)):
            parts.append(scenes.take(torch.randint(len(scenes), (count,), generator=generator)))
        values = levels(torch.cat([p.images for p in parts]))
        return values, torch.cat([p.box for p in parts])

    def cropped(step: int, generator: torch.Generator) -> tuple[Tensor, Mapping[str, float]]:
        values, box = images(generator)
        # The centre of the shape is somewhere in the piece.
        aim = box[:, :2] * SIZE - CROP * torch.rand(BATCH, 2, generator=generator)
        corners = aim.round().long().clamp(0, SIZE - CROP).tolist()
        pieces = [
            v[:, y : y + CROP, x : x + CROP] for v, (x, y) in zip(values, corners, strict=True)
        ]
        wanted = torch.stack(pieces)
        code = vae.encode(wanted).latent_dist
        noise = torch.randn(code.mean.shape, generator=generator)
        off = vae.decode(code.mean + code.std * noise).sample - wanted
        kl = 0.5 * (code.mean.square() + code.var - 1 - code.logvar).mean()
        total = distance(off) + KL * kl
        return total, {"loss": total.item(), "l1": off.abs().mean().item(), "kl": kl.item()}

    def entire(step: int, generator: torch.Generator) -> tuple[Tensor, Mapping[str, float]]:
        values, _ = images(generator)
        with torch.no_grad():
            code = vae.encode(values).latent_dist.mean
        # Latents that the UNet paints are a little off.
        size = NOISE * torch.rand(len(code), 1, 1, 1, generator=generator)
        noise = size * torch.randn(code.shape, generator=generator) / vae.config.scaling_factor
        off = vae.decode(code + noise).sample - values
        total = distance(off)
        return total, {"loss": total.item(), "l1": off.abs().mean().item()}

    shown = levels(check.images[:256])

    def look(step: int) -> Mapping[str, float]:
        off = vae.decode(vae.encode(shown).latent_dist.mean).sample.clamp(-1, 1) - shown
        # On the scale of pixels, 0 to 255; most of an image is background.
        return {"check_rmse": 127.5 * off.square().mean().sqrt().item()}

    run(crops, module, cropped, work, look)
    # From here on latents stay as they are, so that the UNet need not wait for the decoder.
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    deviation = encoded(vae, published.images[:SAMPLE]).std().item()
    vae.register_to_config(scaling_factor=1 / deviation)
    run(whole, module, entire, work, look)
    vae.eval().requires_grad_(False)


def distance(off: Tensor) -> Tensor:
    """Of pixels from -1 to 1: the absolute error keeps edges sharp, the square punishes wrong colours."""
    return off.abs().mean() + 4 * off.square().mean()


@torch.no_grad()
def encoded(vae: Any, images: Tensor, batch: int = 256) -> Tensor:
    """(N, 64, 64, 3) uint8 -> (N, 8, 8, 8), the means of the latents, unscaled."""
    return torch.cat([vae.encode(levels(part)).latent_dist.mean for part in images.split(batch)])


def levels(images: Tensor) -> Tensor:
    """(N, 64, 64, 3) uint8 -> (N, 3, 64, 64) from -1 to 1."""
    values = images.permute(0, 3, 1, 2).float() / 127.5 - 1
    return values.contiguous(memory_format=torch.channels_last)
