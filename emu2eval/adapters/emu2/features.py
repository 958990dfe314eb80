"""Images through Emu2's vision tower, pooled to the tokens that stand for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from emu2eval.adapters.emu2.model import Emu2
from emu2eval.adapters.emu2.vision import normalised, resized
from emu2eval.adapters.local.devices import exact_convolutions
from emu2eval.adapters.local.encoded import Shown
from emu2eval.adapters.local.features import ImageEncoder
from emu2eval.adapters.local.kept_features import LaidFeatures
from emu2eval.adapters.local.prepared import Arrays
from emu2eval.media import images
from emu2eval.media.refusals import taking


@dataclass(frozen=True, slots=True)
class Pooled:
    """pooled: (tokens, width), before `project_up`."""

    pooled: Tensor

    @property
    def nbytes(self) -> int:
        return self.pooled.nbytes


TOGETHER = 8
"""Images whose features are waited for together."""


class TowerEncoder(ImageEncoder[Pooled]):
    """Features wait on the CPU. One image at a time: an image is a thousand positions to the tower, so that a
    batch would gain nothing, and its features would depend on the others by rounding."""

    exact: ClassVar[bool] = True

    def __init__(self, model: Emu2, reuse: bool = True):
        super().__init__(reuse)
        self.model = model

    def decode(self, shown: Shown) -> Arrays:
        image = images.load(shown.image)
        with taking(shown.image, "Emu2"):
            pixels = resized(image, self.model.config.vision.image_size)
        # Pinned by the thread that made it, it goes to a GPU while that is at the image before.
        return Arrays({"pixels": pixels.pin_memory() if self.device.type == "cuda" else pixels})

    def joins(self, waiting: Sequence[tuple[Shown, Arrays]], one: tuple[Shown, Arrays]) -> bool:
        return len(waiting) < TOGETHER

    def together(self, waiting: Sequence[tuple[Shown, Arrays]]) -> dict[str, Pooled]:
        """One after the other; the device is waited for once."""
        made = [self.encode(arrays, shown).pooled for shown, arrays in waiting]
        rows = torch.cat(made).cpu() if made else torch.empty(0)
        found, at = {}, 0
        for shown, _ in waiting:
            # Of its own memory, which is given back with it.
            found[shown.key] = Pooled(rows[at : at + shown.tokens].clone())
            at += shown.tokens
        return found

    def encode(self, arrays: Arrays, shown: Shown) -> Pooled:
        """On the device, where a quarter is sent of what is made of it there."""
        sent = arrays.values["pixels"].to(self.device, non_blocking=True)
        return Pooled(self.model.encode_images(normalised(sent)[None], shown.tokens)[0])

    @property
    def device(self) -> torch.device:
        return self.model.image_device

    def laid(self, features: Pooled) -> LaidFeatures:
        return LaidFeatures({"pooled": features.pooled}, {})

    def taken_up(self, laid: LaidFeatures) -> Pooled:
        return Pooled(laid.tensors["pooled"])


@exact_convolutions()
def unconditional(model: Emu2) -> Tensor:
    """(1, n_query, width): what guidance contrasts an image with that is painted again.

    It is an image of the mean colour, which is all zeros once normalised.
    """
    size = model.config.vision.image_size
    return model.encode_images(torch.zeros(1, 3, size, size))
