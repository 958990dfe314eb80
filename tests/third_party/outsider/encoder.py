"""An encoder: the mean colour of each quarter of an image."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from emu2eval import Encoder, Image, Vectors, images


class Quarters(Encoder):
    name = "quarters"

    def identity(self) -> Mapping[str, Any]:
        return {"encoder": "quarters", "version": 1}

    def prepare(self, image: Image) -> Vectors:
        pixels = np.asarray(images.load(image), dtype=np.float32)
        middle, centre = (side // 2 for side in pixels.shape[:2])
        parts = [half[:, :centre] for half in (pixels[:middle], pixels[middle:])]
        parts += [half[:, centre:] for half in (pixels[:middle], pixels[middle:])]
        return np.concatenate([part.mean((0, 1)) for part in parts]) - np.float32(127.5)

    def encode(self, prepared: Sequence[Any]) -> Vectors:
        return np.stack(prepared)
