"""Images through Emu2's vision tower, pooled to the tokens that stand for them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from emu2eval.adapters.emu2.model import Emu2
from emu2eval.adapters.emu2.vision import normalised, resized
from emu2eval.adapters.local.devices import exact_convolutions
from emu2eval.adapters.local.encoded import Shown
from emu2eval.adapters.local.features import ImageEncoder
from emu2eval.adapters.local.kept_features import Laid
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


class TowerEncoder(ImageEncoder[Pooled]):
    """Features wait on the CPU. One image at a time: an image is a thousand positions to the tower, so that a
    batch would gain nothing, and its features would depend on the others by rounding."""

    def __init__(self, model: Emu2, reuse: bool = True):
        super().__init__(reuse)
        self.model = model

    def decode(self, shown: Shown) -> Arrays:
        image = images.load(shown.image)
        with taking(shown.image, "Emu2"):
            return Arrays({"pixels": resized(image, self.model.config.vision.image_size)})

    def encode(self, arrays: Arrays, shown: Shown) -> Pooled:
        # A quarter of the memory until now, and the same numbers: on the CPU, as ever.
        given = normalised(arrays.values["pixels"])[None]
        return Pooled(self.model.encode_images(given, shown.tokens)[0].cpu())

    @property
    def device(self) -> torch.device:
        return self.model.image_device

    def laid(self, features: Pooled) -> Laid:
        return Laid({"pooled": features.pooled}, {})

    def taken_up(self, laid: Laid) -> Pooled:
        return Pooled(laid.tensors["pooled"])


@exact_convolutions()
def unconditional(model: Emu2) -> Tensor:
    """(1, n_query, width): what guidance contrasts an image with that is painted again.

    It is an image of the mean colour, which is all zeros once normalised.
    """
    size = model.config.vision.image_size
    return model.encode_images(torch.zeros(1, 3, size, size))
