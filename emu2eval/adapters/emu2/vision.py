"""EVA-CLIP, the image encoder of Emu2 ("eva-clip-4b-14-x"): pixels to one vector a patch.

Parameter names are those of the released checkpoints.
"""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emu2eval.adapters.emu2.config import VisionConfig
from emu2eval.adapters.local.devices import device_of

if TYPE_CHECKING:
    from PIL.Image import Image

# CLIP's channel means and deviations (arXiv 2103.00020), on pixels in 0..1.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


def pixels(image: Image, size: int) -> Tensor:
    """An RGB image as (3, size, size), squashed without crop or padding, bicubic, CLIP-normalised."""
    return normalised(resized(image, size))


def resized(image: Image, size: int) -> Tensor:
    """An RGB image as (3, size, size) uint8, squashed without crop or padding, bicubic."""
    from PIL.Image import Resampling

    small = image.resize((size, size), Resampling.BICUBIC)
    # A bytearray, because torch warns about memory that it may not write to.
    data = torch.frombuffer(bytearray(small.tobytes()), dtype=torch.uint8)
    return data.view(size, size, 3).permute(2, 0, 1).contiguous()


def normalised(levels: Tensor) -> Tensor:
    """(3, height, width) uint8 -> float32 by CLIP's means and deviations: the same bits on every device."""
    whole, mean, deviation = _constants(levels.device)
    return (levels.float() / whole - mean) / deviation


@cache
def _constants(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """White, means and deviations, (…, 1, 1). Tensors, since a GPU multiplies by a number's reciprocal."""
    with torch.inference_mode(False):
        white, mean, deviation = (
            torch.tensor(each, device=device) for each in ((255.0,), MEAN, STD)
        )
    return white.view(-1, 1, 1), mean.view(-1, 1, 1), deviation.view(-1, 1, 1)


class EvaVisionTower(nn.Module):
    """(N, 3, size, size) -> (N, 1 + patches, width), the class token first; no norm after the last block."""

    def __init__(self, config: VisionConfig):
        super().__init__()
        self.config = config
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + config.grid**2, config.width))
        self.patch_embed = PatchEmbed(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.patch_embed(pixels)
        # A placed model may run its patch layer elsewhere than where these two parameters live.
        cls = self.cls_token.to(patches.device).expand(len(patches), -1, -1)
        x = torch.cat([cls, patches], dim=1) + self.pos_embed.to(patches.device)
        for block in self.blocks:
            x = block(x.to(device_of(block)))
        out: Tensor = x
        return out


class PatchEmbed(nn.Module):
    """(N, 3, size, size) -> (N, patches, width), row by row."""

    def __init__(self, config: VisionConfig):
        super().__init__()
        self.proj = nn.Conv2d(3, config.width, config.patch_size, config.patch_size)

    def forward(self, pixels: Tensor) -> Tensor:
        patches: Tensor = self.proj(pixels)
        return patches.flatten(2).transpose(1, 2)


class Block(nn.Module):
    """Norm after each branch (res-post-norm), unlike the usual pre-norm ViT."""

    def __init__(self, config: VisionConfig):
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, eps=config.layer_norm_eps)
        self.attn = Attention(config)
        self.norm2 = nn.LayerNorm(config.width, eps=config.layer_norm_eps)
        self.mlp = MLP(config)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.norm1(self.attn(x))
        out: Tensor = x + self.norm2(self.mlp(x))
        return out


class Attention(nn.Module):
    """Every patch to every patch. Queries and values have a bias, keys have none."""

    def __init__(self, config: VisionConfig):
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(config.width))
        self.v_bias = nn.Parameter(torch.zeros(config.width))
        self.proj = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        q, v = q + self.q_bias.to(q.device), v + self.v_bias.to(v.device)
        shape = (*x.shape[:2], self.heads, -1)
        q, k, v = (t.reshape(shape).transpose(1, 2) for t in (q, k, v))
        seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        out: Tensor = self.proj(seen)
        return out


class MLP(nn.Module):
    def __init__(self, config: VisionConfig):
        super().__init__()
        self.fc1 = nn.Linear(config.width, config.hidden)
        self.fc2 = nn.Linear(config.hidden, config.width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


def pool(hidden: Tensor, tokens: int) -> Tensor:
    """(N, 1 + patches, width) -> (N, tokens, width): class token dropped, square cells averaged."""
    patches = hidden[:, 1:].transpose(1, 2)
    grid = math.isqrt(patches.shape[-1])
    cell = grid // math.isqrt(tokens)
    square = patches.reshape(*patches.shape[:2], grid, grid)
    return F.avg_pool2d(square, cell).flatten(2).transpose(1, 2)
