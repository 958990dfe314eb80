"""FID: how far the features of all images, taken together, are from those of real ones.

Heusel et al., 2017 (arXiv 1706.08500): |m - r|² + Tr(S + R - 2 (S R)^½) of means m, r and covariances S, R.
torchmetrics adds up the features and computes the distance, in float64; images go through the network a few
at a time and their features are kept, so that neither all images nor all features are ever in memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emu2eval.encoders.base import Encoder, build_encoder
from emu2eval.encoders.features import FeatureCache, by_digest
from emu2eval.encoders.inception import ENDINGS, InceptionEncoder
from emu2eval.errors import ConfigError, ImageError, MissingExtra, UserError
from emu2eval.identity import value_key
from emu2eval.media import images
from emu2eval.spec.settings import Count, Settings
from emu2eval.statistics.estimates import Linearized
from emu2eval.types import Image, Progress, Sample, Score

Array = NDArray[np.float64]

MATCHED = "matched"
_AT_ONCE = 1024
_KEPT = ("png", "jpg", "jpeg", "webp", "bmp")


class FrechetSettings(Settings):
    """network: the file of Inception-v3's weights (`encoders.inception`), or an encoder of `build_encoder`,
    such as the folder of a DINOv2 checkpoint. crop, antialias: how Inception is shown images.

    references: `matched` = the real images that the samples name, each once; or a folder of images.
    """

    network: str
    references: str = MATCHED
    crop: Count | None = 256
    antialias: bool = True


class Frechet:
    """What FID is measured by."""

    def __init__(self, settings: FrechetSettings):
        self.network = settings.network
        self.references = settings.references
        self.crop = settings.crop
        self.antialias = settings.antialias
        self._refused: dict[str, ImageError] = {}

    @cached_property
    def encoder(self) -> Encoder:
        """Raises ConfigError where it cannot be built."""
        if Path(self.network).suffix in ENDINGS:
            return InceptionEncoder(self.network, self.crop, self.antialias)
        return build_encoder(
            self.network,
            setting="task.score.options.fid.network",
            instead="to omit this metric: --set task.score.options.fid=null",
        )

    @property
    def variant(self) -> str:
        """The network's name."""
        return Path(self.network).name.removesuffix(Path(self.network).suffix)

    def lacks(self) -> list[UserError]:
        found = MissingExtra.of(("torchmetrics",), "images", why="FID") + self.encoder.lacks()
        if self.references != MATCHED:
            try:
                _ = self._shown
            except UserError as error:
                found.append(error)
        return found

    def fetch(self) -> None:
        self.encoder.fetch()

    def try_out(self) -> None:
        """Raises UserError where the network cannot encode an image."""
        self.kept.try_out()

    @property
    def short(self) -> str:
        """What decides the features, in short."""
        return value_key(self.encoder.identity())[:8]

    @property
    def note(self) -> str:
        """Everything that moves the number."""
        from importlib.metadata import version

        said = [f"{self.encoder.name} ({self.short})"]
        if isinstance(self.encoder, InceptionEncoder):
            said.append(f"cut to {self.crop}" if self.crop else "not cut")
            said.append("antialiased" if self.antialias else "resized as TensorFlow 1")
        of = "" if self.references == MATCHED else f" of {Path(self.references).name}"
        said.append(f"against {self._against:,} images{of}")
        if self._fewest <= self.kept.width:
            said.append(
                f"biased far upwards: {self._fewest:,} images are too few for {self.kept.width:,} features"
            )
        return f"fid: {', '.join(said)}, torchmetrics {version('torchmetrics')}"

    def learn(
        self, made: Iterable[Image], real: Iterable[Image], progress: Progress | None = None
    ) -> None:
        """Features of all images; `real` counts where the references are the matched ones.

        An image that cannot be used is passed over, and told by `check`. Raises for one of the folder.
        """
        drawn = by_digest(made)
        if self.references == MATCHED:
            wanted = by_digest(real)
        else:
            wanted = dict(zip(self._digests, self._shown, strict=True))
            self.kept.fill(wanted, progress)
        self.kept.fill({**wanted, **drawn}, progress, self._refused)
        self._against = sum(digest not in self._refused for digest in wanted)
        self._fewest = min(self._against, sum(digest not in self._refused for digest in drawn))

    def check(self, sample: Sample, image: Image) -> None:
        """Raises ImageError where the image, or a real one that comes with the sample, cannot be used."""
        for digest in (images.digest(image), *self.real(sample)):
            if digest in self._refused:
                raise self._refused[digest]

    _against = _fewest = 0

    def real(self, sample: Sample) -> list[str]:
        """Digests of the reference images that come with one sample."""
        if self.references != MATCHED:
            return self._digests
        return [images.digest(image) for image in matched(sample)]

    @cached_property
    def kept(self) -> FeatureCache:
        return FeatureCache(self.encoder, exact=True)

    def vectors(self, digests: Sequence[str]) -> Iterator[Array]:
        """(at most 1,024, width) at a time."""
        for start in range(0, len(digests), _AT_ONCE):
            yield self.kept.vectors(digests[start : start + _AT_ONCE]).astype(np.float64)

    @cached_property
    def _digests(self) -> list[str]:
        return [images.digest(image) for image in self._shown]

    @cached_property
    def _shown(self) -> list[Image]:
        """The images of the folder."""
        folder = Path(self.references).expanduser()
        endings = tuple(f".{ending}" for ending in _KEPT)
        found = sorted(p for p in folder.glob("*") if p.suffix.lower() in endings)
        if len(found) < 2:
            raise ConfigError(
                "the folder of FID's reference images "
                + ("has fewer than two" if folder.is_dir() else "does not exist"),
                where=folder,
                hint=f"use a folder of {', '.join(_KEPT)} files, or references: {MATCHED}",
            )
        return [Image(str(path)) for path in found]


def matched(sample: Sample) -> list[Image]:
    """The first real image that the sample names, if it names one."""
    return [part for part in sample.references if isinstance(part, Image)][:1]


class FrechetDistance(Linearized):
    """FID of the images whose digests stand in the scores' details, the reference images being given.

    Its error is that of its linear part: what each image, or cluster, moves it by (the infinitesimal
    jackknife; Efron, 1982). Of fewer images than the features are wide, it is far too large, and so
    comparable only among equal numbers of images.
    """

    def __init__(self, frechet: Frechet):
        self.frechet = frechet
        self.digests: list[str] = []
        self.clusters: list[str] = []
        self.real: dict[str, None] = {}

    def add(self, sample: Sample, score: Score) -> None:
        digest = score.details.get("image")
        if digest is not None and digest in self.frechet.kept:
            self.digests.append(digest)
            self.clusters.append(sample.cluster or sample.id)
            self.real.update(dict.fromkeys(self.frechet.real(sample)))

    def value(self) -> float | None:
        if len(self.digests) < 2 or len(self.real) < 2:
            return None
        import torch
        from torchmetrics.image.fid import FrechetInceptionDistance

        class Ready(torch.nn.Module):
            """Features in, the same features out."""

            num_features = self.frechet.kept.width

            def forward(self, given: Any) -> Any:
                return given

        measure = FrechetInceptionDistance(feature=Ready())
        for digests, real in ((sorted(self.real), True), (self.digests, False)):
            for vectors in self.frechet.vectors(digests):
                measure.update(torch.from_numpy(vectors), real=real)
        return float(measure.compute())

    def undefined(self) -> str | None:
        few = min(len(self.digests), len(self.real)) < 2
        return "a single image has no variance to compare" if few and self.digests else None

    def influences(self) -> Mapping[str, float] | None:
        """d FID(m, S) of an image x: 2 (m - r)(x - m) + (x - m)ᵀ(1 - T)(x - m) - Tr((1 - T) S), where
        T = R^½ (R^½ S R^½)^-½ R^½ carries the one normal distribution over to the other."""
        if len(set(self.clusters)) < 2 or len(self.real) < 2:
            return None
        mean, covariance = self._moments(self.digests)
        real_mean, real = self._moments(sorted(self.real))
        root = _power(real, 0.5)
        curve = np.eye(len(mean)) - root @ _power(root @ covariance @ root, -0.5) @ root
        towards, level = 2 * (mean - real_mean), float(np.trace(curve @ covariance))
        found: dict[str, float] = dict.fromkeys(self.clusters, 0.0)
        at = 0
        for vectors in self.frechet.vectors(self.digests):
            off = vectors - mean
            moved = off @ towards + np.einsum("ij,ij->i", off @ curve, off) - level
            for cluster, value in zip(self.clusters[at:], moved, strict=False):
                found[cluster] += float(value) / len(self.digests)
            at += len(vectors)
        return found

    def _moments(self, digests: Sequence[str]) -> tuple[Array, Array]:
        """Mean (width,) and covariance (width, width), over n - 1."""
        width, n = self.frechet.kept.width, len(digests)
        total, products = np.zeros(width), np.zeros((width, width))
        for vectors in self.frechet.vectors(digests):
            total += vectors.sum(axis=0)
            products += vectors.T @ vectors
        mean = total / n
        return mean, (products - n * np.outer(mean, mean)) / (n - 1)


def _power(matrix: Array, exponent: float) -> Array:
    """Of a symmetric matrix without negative eigenvalues; what is zero but for rounding stays zero."""
    values, vectors = np.linalg.eigh(matrix)
    least = max(float(values.max()), 0.0) * len(values) * np.finfo(np.float64).eps
    powers = np.where(values > least, np.maximum(values, math.ulp(0.0)) ** exponent, 0.0)
    raised: Array = (vectors * powers) @ vectors.T
    return raised
