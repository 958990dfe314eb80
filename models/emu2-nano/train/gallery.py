"""What every picture shows to the language model: its visual embeddings, and the mean of each kind's."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scenes import COLOUR_NAMES, SHAPES, Scenes
from torch import Tensor

Kind = tuple[str, str]
"""A shape and a colour."""


@dataclass(frozen=True)
class Gallery:
    """features: (N, tokens, width), centred and of deviation 1; shape, colour: (N,) places in the lists.

    ideal: of each kind the place of one more entry, the mean over its pictures. It is the best answer to
    words that leave place and size open, so drawing learns to give it.
    """

    features: Tensor
    shape: Tensor
    colour: Tensor
    ideal: dict[Kind, int]

    def kind(self, place: int) -> Kind:
        return SHAPES[int(self.shape[place])], COLOUR_NAMES[int(self.colour[place])]


def gallery(features: Tensor, scenes: Scenes, unseen: range) -> Gallery:
    """features: (N, tokens, width) of the scenes. unseen: places left out of the means, but for the kinds
    that are nowhere else."""
    kept = torch.ones(len(scenes), dtype=torch.bool)
    kept[unseen.start : unseen.stop] = False
    number = scenes.shape * len(COLOUR_NAMES) + scenes.colour
    means, kinds = [], []
    for kind in number.unique().tolist():
        own = number == kind
        means.append(features[own & kept if (own & kept).any() else own].mean(0))
        kinds.append(kind)
    shape, colour = (
        torch.tensor(kinds) // len(COLOUR_NAMES),
        torch.tensor(kinds) % len(COLOUR_NAMES),
    )
    return Gallery(
        torch.cat([features, torch.stack(means)]),
        torch.cat([scenes.shape, shape]),
        torch.cat([scenes.colour, colour]),
        {
            (SHAPES[s], COLOUR_NAMES[c]): len(scenes) + place
            for place, (s, c) in enumerate(zip(shape.tolist(), colour.tolist(), strict=True))
        },
    )
