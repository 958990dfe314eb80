"""What the UNet is trained on: latents, the embeddings they are painted from, and batches of both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import vae as autoencoder
from scenes import COLOUR_NAMES, SIZE, Scenes
from torch import Tensor
from vision import features

from emu2eval.adapters.emu2.model import Emu2

BATCH = 32
REAL = 0.5  # share of published images in a batch
MEANS = 0.5  # share that is painted from a mean over images of one shape and colour
NOTHING = 2  # of a batch: painted from the mean over all images, or from an empty image
LARGE = 20 / SIZE  # where the words leave the size open, shapes at least this wide are painted
NOISE = 0.3  # most noise on the embeddings, which are regressed with an error of their own


@dataclass(frozen=True)
class Material:
    """latents: (N, C, h, w) scaled; features: (N, tokens, width) standardised; real ones come first.

    nothing: (1, tokens, width) of an empty image; kind: (N,) shape and colour as one number;
    large: (N,) whether it is shown large enough to be told well; real: (N,) published, not drawn.
    """

    latents: Tensor
    features: Tensor
    nothing: Tensor
    kind: Tensor
    large: Tensor
    real: Tensor

    def __len__(self) -> int:
        return len(self.kind)


def statistics(tower: Emu2, scenes: Scenes) -> tuple[Tensor, Tensor]:
    """Mean and deviation (width,) of the tower's pooled features. They make the UNet's training the
    same whatever constant or scale the stored tower has."""
    raw = features(tower, scenes)
    return raw.mean((0, 1)), raw.std((0, 1))


@torch.no_grad()
def material(
    tower: Emu2, vae: Any, scenes: Scenes, real: int, mean: Tensor, scale: Tensor
) -> Material:
    """real: how many scenes are published images; mean, scale: see `statistics`."""
    empty = tower.encode_images(torch.zeros(1, 3, SIZE, SIZE))
    return Material(
        autoencoder.encoded(vae, scenes.images).contiguous() * vae.config.scaling_factor,
        (features(tower, scenes) - mean) / scale,
        (empty - mean) / scale,
        scenes.shape * len(COLOUR_NAMES) + scenes.colour,
        scenes.box[:, 2] >= LARGE,
        torch.arange(len(scenes)) < real,
    )


def kinds(known: Material) -> dict[int, Tensor]:
    """The places of each shape and colour."""
    return {int(k): (known.kind == k).nonzero()[:, 0] for k in known.kind.unique()}


def batch(
    known: Material, same: Mapping[int, Tensor], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Places of images to paint, and what to paint them from (BATCH, tokens, width).

    same: see `kinds`.
    """
    count, real = round(BATCH * REAL), int(known.real.sum())
    places = torch.cat(
        [
            torch.randint(real, (count,), generator=generator),
            torch.randint(real, len(known), (BATCH - count,), generator=generator),
        ]
    )[torch.randperm(BATCH, generator=generator)]
    cond = known.features[places]
    for row in range(round(BATCH * MEANS)):
        alike = same[int(known.kind[places[row]])]
        # Two images or hundreds: from what a few demonstrations show to what a kind has in common.
        many = int(2 ** (1 + 7 * torch.rand(1, generator=generator)))
        others = alike[torch.randint(len(alike), (many,), generator=generator)]
        cond[row] = known.features[others].mean(0)
        fitting = others[known.large[others]]
        if len(fitting):
            places[row] = fitting[0]
    anything = torch.randint(len(known), (256,), generator=generator)
    cond[-NOTHING:] = known.nothing
    cond[-(NOTHING // 2) :] = known.features[anything].mean(0)
    size = NOISE * torch.rand(BATCH, 1, 1, generator=generator)
    return places, cond + size * torch.randn(cond.shape, generator=generator)
