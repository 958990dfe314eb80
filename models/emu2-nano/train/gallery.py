"""What every image shows to the language model: its visual embeddings, and the ideal of each kind."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scenes import COLOUR_NAMES, SHAPES, Scenes
from torch import Tensor
from torch.nn.functional import one_hot

Kind = tuple[str, str]
"""A shape and a colour."""


@dataclass(frozen=True)
class Gallery:
    """features: (N, tokens, width), centred and of deviation 1; shape, colour: (N,) places in the lists.

    ideal: of each kind the place of one more entry, what drawing learns to give: the best answer to words
    that leave place and size open is the mean over a kind's images. That mean is a shape's part plus a
    colour's, but for a hundredth of its variance, so the sum is taken: it can be learnt from few kinds.
    """

    features: Tensor
    shape: Tensor
    colour: Tensor
    ideal: dict[Kind, int]

    def kind(self, place: int) -> Kind:
        return SHAPES[int(self.shape[place])], COLOUR_NAMES[int(self.colour[place])]


def gallery(features: Tensor, scenes: Scenes, trained: int) -> Gallery:
    """features: (N, tokens, width) of the scenes, of which the first `trained` may be learnt from."""
    number = scenes.shape * len(COLOUR_NAMES) + scenes.colour
    kinds = number.unique()
    shape, colour = kinds // len(COLOUR_NAMES), kinds % len(COLOUR_NAMES)
    known = [place for place, kind in enumerate(kinds) if (number[:trained] == kind).any()]
    means = [features[:trained][number[:trained] == kinds[place]].mean(0) for place in known]
    parts = torch.cat([one_hot(shape, len(SHAPES)), one_hot(colour, len(COLOUR_NAMES))], 1).double()
    wanted = torch.stack(means).flatten(1).double()
    # The smallest of all solutions: a constant can be a part of the shapes' as well as of the colours'.
    fitted = torch.linalg.lstsq(parts[known], wanted, driver="gelsd").solution
    ideals = (parts @ fitted).to(features.dtype).view(len(kinds), *features.shape[1:])
    return Gallery(
        torch.cat([features, ideals]),
        torch.cat([scenes.shape, shape]),
        torch.cat([scenes.colour, colour]),
        {
            (SHAPES[s], COLOUR_NAMES[c]): len(scenes) + place
            for place, (s, c) in enumerate(zip(shape.tolist(), colour.tolist(), strict=True))
        },
    )
