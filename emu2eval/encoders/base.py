"""Encoders: images, and texts where supported, to vectors whose cosine measures similarity."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from emu2eval import registry
from emu2eval.errors import ConfigError, UserError
from emu2eval.media import images
from emu2eval.types import Image

Vectors = npt.NDArray[np.float32]

OWN = "model"
"""The name that stands for the evaluated model's own image encoder."""


class Encoder(ABC):
    """To write an encoder, subclass this, set `name`, and write `identity` and `encode`, and `texts` if
    it can encode texts.

    A vector depends only on its image, never on the others in the batch: neither the choice of
    demonstrations nor a score may depend on how the features were computed. The constructor reads local
    configuration only: no weights, no network.
    """

    name: str
    batch: int = 32
    """The most images or texts that `encode` and `texts` are given at a time."""

    def lacks(self) -> list[UserError]:
        """What is missing before it can encode: extras, files, weights. Each error says how to get it.

        Judged from this machine alone: nothing is loaded, and the network is not used.
        """
        return []

    def fetch(self) -> None:
        """Downloads what `lacks` reports, as far as possible. Raises UserError where that fails."""

    @abstractmethod
    def identity(self) -> Mapping[str, Any]:
        """Small JSON values that determine the vectors: digests of weights, preprocessing, versions."""

    @abstractmethod
    def encode(self, prepared: Sequence[Any]) -> Vectors:
        """n images as returned by `prepare` -> (n, width) float32."""

    def prepare(self, image: Image) -> Any:
        """Decodes one image; called ahead on other threads."""
        return image

    def texts(self, given: Sequence[str]) -> Vectors:
        """n texts -> (n, width) float32. Raises ConfigError if the encoder does not read texts."""
        raise ConfigError(
            f"the encoder {self.name!r} encodes only images, not text",
            hint="choose a CLIP checkpoint, or, for a chooser, remove the option `text`",
        )

    def close(self) -> None:
        """Frees the weights; they are loaded again when they are needed."""


def build_encoder(
    name: str, own: Encoder | None = None, *, where: str | None = None, **checkpoint: Any
) -> Encoder:
    """thumbnail; `model`, which is `own`; `module:attr`; else a CLIP, SigLIP or DINO checkpoint by path
    or hub id, with the options of `CheckpointEncoder`. Reads no weights."""
    if name == OWN:
        if own is None:
            raise ConfigError(
                "the chooser compares images with the model's own encoder, but there is no model here",
                where=where,
                hint="give a model, or another encoder: "
                "--set task.demonstrations.options.encoder=thumbnail",
            )
        return own
    if ":" in name or name in registry.known("encoder"):
        built: Encoder = registry.build("encoder", name, {}, where=where)
        return built
    from emu2eval.encoders.checkpoint import CheckpointEncoder

    return CheckpointEncoder(name, **checkpoint)


class Thumbnail(Encoder):
    """Colours and layout without weights: 16 x 16 RGB around grey, (768,); words by hashing, (512,).

    For data at hand without a connection, for tests, and as a lower bound that a real encoder must beat.
    """

    name = "thumbnail"

    def identity(self) -> Mapping[str, Any]:
        return {"encoder": "thumbnail", "version": 1}

    def prepare(self, image: Image) -> Vectors:
        from PIL import Image as PILImage

        small = images.load(image).resize((16, 16), PILImage.Resampling.BOX)
        # Half a step beside every grey value, so that no image is the zero vector.
        return np.asarray(small, dtype=np.float32).ravel() - np.float32(127.5)

    def encode(self, prepared: Sequence[Any]) -> Vectors:
        return np.stack(prepared)

    def texts(self, given: Sequence[str]) -> Vectors:
        out = np.zeros((len(given), 512), dtype=np.float32)
        for row, text in zip(out, given, strict=True):
            for word in text.lower().replace("?", " ").replace(",", " ").split():
                place = int.from_bytes(blake2b(word.encode(), digest_size=4).digest(), "big")
                # The sign keeps words that share a place from looking alike (feature hashing).
                row[place % 512] += 1.0 if place & 0x80000000 else -1.0
        return out
