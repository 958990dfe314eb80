"""Stage 1: the vision tower learns to say, at each pooled token, what the whole image shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from loop import Stage, Workspace, run
from scenes import COLOUR_NAMES, SHAPES, Scenes, normalised
from torch import Tensor, nn
from torch.nn import functional as F

from emu2eval.adapters.emu2.model import Emu2
from emu2eval.adapters.emu2.vision import pool

BATCH = 64
PUBLISHED = 16  # of a batch: real images, far fewer than drawn ones


class Heads(nn.Module):
    """The tower with what is thrown away after this stage: a linear reading of every pooled token."""

    def __init__(self, tower: nn.Module, width: int, tokens: int):
        super().__init__()
        self.tower, self.tokens = tower, tokens
        self.sizes = (len(SHAPES), len(COLOUR_NAMES), 4)
        self.read = nn.Linear(width, sum(self.sizes))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, 3, 64, 64) -> shape, colour (N, tokens, classes) and box (N, tokens, 4)."""
        read = self.read(pool(self.tower(pixels), self.tokens))
        shape, colour, box = read.split(self.sizes, -1)
        return shape, colour, box


def train(
    model: Emu2, published: Scenes, drawn: Scenes, check: Scenes, stage: Stage, work: Workspace
) -> None:
    """Trains `model.visual`. check: images of the validation part."""
    heads = Heads(model.visual, model.config.vision.width, model.config.n_query)

    def batch(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        parts = []
        for scenes, count in ((published, PUBLISHED), (drawn, BATCH - PUBLISHED)):
            parts.append(scenes.take(torch.randint(len(scenes), (count,), generator=generator)))
        images = torch.cat([p.images for p in parts])
        box = torch.cat([p.box for p in parts])
        # Every shape is its own mirror image.
        flip = torch.rand(len(images), generator=generator) < 0.5
        images = torch.where(flip[:, None, None, None], images.flip(2), images)
        mirrored = torch.cat([1 - box[:, :1], box[:, 1:]], 1)
        box = torch.where(flip[:, None], mirrored, box)
        shape, colour = (torch.cat([getattr(p, n) for p in parts]) for n in ("shape", "colour"))
        return normalised(images), shape, colour, box

    def loss(step: int, generator: torch.Generator) -> tuple[Tensor, Mapping[str, float]]:
        pixels, shape, colour, box = batch(generator)
        shapes, colours, boxes = heads(pixels)
        each = (BATCH, model.config.n_query)
        of_shape = F.cross_entropy(shapes.transpose(1, 2), shape[:, None].expand(each))
        of_colour = F.cross_entropy(colours.transpose(1, 2), colour[:, None].expand(each))
        of_box = F.smooth_l1_loss(boxes, box[:, None].expand_as(boxes), beta=0.05)
        total = of_shape + of_colour + 2 * of_box
        return total, {"loss": total.item(), "shape": of_shape.item(), "box": of_box.item()}

    def look(step: int) -> Mapping[str, float]:
        shapes, colours, boxes = heads(normalised(check.images))
        return {
            "shape_right": (shapes.argmax(-1) == check.shape[:, None]).float().mean().item(),
            "colour_right": (colours.argmax(-1) == check.colour[:, None]).float().mean().item(),
            "box_off": (boxes - check.box[:, None]).abs().mean().item(),
        }

    run(stage, heads, loss, work, look)


@dataclass(frozen=True)
class Features:
    """values: (N, tokens, width)."""

    values: Tensor


@torch.no_grad()
def features(model: Emu2, scenes: Scenes, batch: int = 256) -> Tensor:
    """(N, tokens, width): what the finished tower gives for every image."""
    rows = [model.encode_images(normalised(part)) for part in scenes.images.split(batch)]
    return torch.cat(rows)
