"""How alike two images, or an image and a text, are to an encoder such as CLIP or DINO."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emu2eval.encoders.base import Encoder, build_encoder
from emu2eval.encoders.features import FeatureCache, Kind, by_digest
from emu2eval.errors import ConfigError, ImageError, UserError
from emu2eval.identity import value_key
from emu2eval.media import images
from emu2eval.spec.settings import Settings
from emu2eval.types import Image, Progress

Vector = npt.NDArray[np.float64]


class LikenessSettings(Settings):
    """encoder: as for `build_encoder`, such as the path or hub id of a transformers CLIP or DINO checkpoint.

    preprocessing: keys of a preprocessor_config.json in place of the checkpoint's own.
    """

    encoder: str
    preprocessing: dict[str, Any] | None = None


class Likeness:
    """Cosines of the features of one encoder, each computed once per digest and kept in the cache.

    option: the scorer's option that holds the settings, for errors.
    loaded: where those who are given the same mapping share their encoders, so that none is there twice.
    """

    def __init__(
        self, settings: LikenessSettings, option: str, loaded: dict[str, Encoder] | None = None
    ):
        key = f"task.score.options.{option}"
        self.name = Path(settings.encoder).name
        self._named = settings.encoder
        self._told: dict[str, Any] = {
            "preprocessing": settings.preprocessing,
            "setting": f"{key}.encoder",
            "instead": f"to omit this metric: --set {key}=null",
        }
        self._loaded = loaded if loaded is not None else {}
        self._features: dict[Kind, FeatureCache] = {}
        self._refused: dict[str, ImageError] = {}

    @cached_property
    def encoder(self) -> Encoder:
        """Raises ConfigError where it cannot be built."""
        key = value_key([self._named, self._told["preprocessing"]])
        if key not in self._loaded:
            self._loaded[key] = build_encoder(self._named, **self._told)
        return self._loaded[key]

    def lacks(self) -> list[UserError]:
        return self.encoder.lacks()

    def fetch(self) -> None:
        self.encoder.fetch()

    def try_out(self, words: bool = False) -> None:
        """Raises UserError where the encoder cannot encode images, and words if wanted."""
        self._kept("images").try_out()
        if words:
            self._kept("texts").try_out()
            self._comparable(self._kept("images").width, self._kept("texts").width)

    @property
    def short(self) -> str:
        """What decides the vectors, in short."""
        return value_key(self.encoder.identity())[:8]

    @property
    def note(self) -> str:
        return f"{self.name} ({self.short})"

    def learn(
        self,
        shown: Iterable[Image] = (),
        texts: Iterable[str] = (),
        progress: Progress | None = None,
    ) -> None:
        """Encodes what is not in the cache yet. Raises UserError; what was made before is kept.

        An image that cannot be used is passed over, and told by `vector`.
        """
        self._kept("images").fill(by_digest(shown), progress, self._refused)
        self._kept("texts").fill({_digest(text): text for text in texts}, progress)

    def vector(self, of: Image | str) -> Vector:
        """(width,) float64, just as the encoder gave it. Encodes it if need be. Raises ImageError."""
        kind: Kind = "texts" if isinstance(of, str) else "images"
        digest = _digest(of) if isinstance(of, str) else images.digest(of)
        if digest in self._refused:
            raise self._refused[digest]
        kept = self._kept(kind)
        if digest not in kept:
            kept.fill({digest: of})
        found: Vector = kept.vectors([digest])[0].astype(np.float64)
        return found

    def cosine(self, left: Image | str, right: Image | str) -> float:
        """From -1 to 1; 0 where either is the zero vector."""
        a, b = self.vector(left), self.vector(right)
        self._comparable(len(a), len(b))
        lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
        return float(a @ b) / lengths if lengths else 0.0

    def _comparable(self, width: int, other: int) -> None:
        if width != other:
            raise ConfigError(
                f"the encoder {self._named!r} cannot compare images with texts",
                where=self._told["setting"],
                hint=f"choose a CLIP checkpoint; or, {self._told['instead']}",
            )

    def _kept(self, kind: Kind) -> FeatureCache:
        if kind not in self._features:
            self._features[kind] = FeatureCache(self.encoder, kind, exact=True)
        return self._features[kind]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
