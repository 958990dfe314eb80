"""An encoder as replicas: features of images and texts are computed where the GPUs are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from emu2eval import registry
from emu2eval.adapters.base import Adapter, Limits
from emu2eval.encoders.base import OWN, Encoder, build_encoder
from emu2eval.encoders.elsewhere import Elsewhere, encoded
from emu2eval.engine.backends.base import Backend
from emu2eval.engine.backends.choose import Where
from emu2eval.spec.data import Options
from emu2eval.spec.model import ModelSpec
from emu2eval.spec.settings import Settings
from emu2eval.types import Image, Request, Response
from emu2eval.watch import Watcher

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

AT_ONCE = 1024
"""Images that are shared out together: enough for every replica, and what a kill costs."""


class EncodingSettings(Settings):
    """encoder: by its name; preprocessing: as of `CheckpointEncoder`."""

    encoder: str
    preprocessing: Options = msgspec.field(default_factory=dict)


class Encoding(Adapter):
    """Holds an encoder in a replica; it answers nothing."""

    limits = Limits(frozenset())

    def __init__(self, settings: EncodingSettings):
        given: dict[str, Any] = {"preprocessing": settings.preprocessing}
        given = {key: value for key, value in given.items() if value}
        self._encoder = build_encoder(settings.encoder, **given)

    @property
    def uses_gpus(self) -> bool:
        return True

    def lacks(self) -> list[Any]:
        return self._encoder.lacks()

    def identity(self) -> Mapping[str, Any]:
        return self._encoder.identity()

    def answer(self, requests: Sequence[Request]) -> list[Response]:
        return [Response(error="an encoder answers nothing") for _ in requests]

    def encode_images(self, images: Sequence[Image] | Sequence[str]) -> npt.NDArray[np.float32]:
        """(n, width): of texts, too."""
        return encoded(self._encoder, images)

    def close(self) -> None:
        self._encoder.close()


class Encoders:
    """Takes the work of encoders to replicas of theirs, which end with `close`."""

    def __init__(self, where: Where, told: Watcher):
        self._where = where
        self._told = told
        self._backends: dict[str, Backend] = {}

    def __call__(self, encoder: Encoder) -> Encoder:
        """The encoder, put to work elsewhere; as it is where that gains nothing."""
        if encoder.name == OWN or encoder.name in registry.known("encoder"):
            return encoder

        def run(own: Encoder, given: Sequence[Image] | Sequence[str]) -> npt.NDArray[np.float32]:
            return self._backend(own).encode(given)

        return Elsewhere(encoder, run, AT_ONCE)

    def close(self) -> None:
        for backend in self._backends.values():
            backend.close()
        self._backends.clear()

    def _backend(self, encoder: Encoder) -> Backend:
        if encoder.name not in self._backends:
            settings = {"encoder": encoder.name}
            preprocessing = getattr(encoder, "preprocessing", None)
            given = settings | ({"preprocessing": preprocessing} if preprocessing else {})
            adapter = Encoding(EncodingSettings(**given))
            path = f"{Encoding.__module__}:{Encoding.__qualname__}"
            model = ModelSpec(name=f"the encoder {encoder.name}", adapter=path, settings=given)
            self._backends[encoder.name] = self._where.backend(model, adapter, self._told)
        return self._backends[encoder.name]
