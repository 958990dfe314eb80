"""Images scored by features: CLIP-I, CLIP-T, DINO and FID.

CLIP-I and DINO (Ruiz et al., DreamBooth, arXiv 2208.12242) are cosines with real images, CLIP-T with a
text. The encoders and the pairs decide the value, so the label names the encoder, and the task the pairs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import partial
from itertools import chain
from typing import Literal

from emu2eval.encoders.base import Encoder
from emu2eval.errors import ConfigError, UserError, together
from emu2eval.media import images
from emu2eval.scorers.base import Scorer, Summary, drawn, unreferenced
from emu2eval.scorers.frechet import Frechet, FrechetDistance, FrechetSettings, matched
from emu2eval.scorers.likeness import Likeness, LikenessSettings
from emu2eval.spec.settings import Settings
from emu2eval.statistics.estimates import ClusteredMean
from emu2eval.types import Image, Progress, Response, Sample, Score

FID = "fid"


class CosineSettings(Settings):
    """dino, clip_i: with a sample's image references; clip_t: with its text reference.

    Each is absent unless requested; the headline is the first of them in this order.
    """

    dino: LikenessSettings | None = None
    clip_i: LikenessSettings | None = None
    clip_t: LikenessSettings | None = None

    @property
    def cosines(self) -> dict[str, LikenessSettings]:
        """Those that are asked for."""
        named = {"dino": self.dino, "clip_i": self.clip_i, "clip_t": self.clip_t}
        return {name: settings for name, settings in named.items() if settings is not None}


class ImagesSettings(CosineSettings):
    """fid: of all images together; absent = not requested.

    references: with which of a sample's real images: its first, or all, over which an image's mean is
    taken, so that each image counts alike.
    """

    fid: FrechetSettings | None = None
    references: Literal["first", "all"] = "first"

    def __post_init__(self) -> None:
        if not self.cosines:
            # Each image has a value of its own, which FID alone does not give.
            raise ConfigError(
                "the scorer 'images' has no encoder",
                hint="set at least one of the options dino, clip_i, clip_t",
            )


class Images(Scorer):
    """Each number is a cosine, averaged over the images; details contain each image's own."""

    scale = 1.0
    outputs = frozenset({"image"})

    def __init__(self, settings: ImagesSettings):
        loaded: dict[str, Encoder] = {}
        self.cosines = {n: Likeness(each, n, loaded) for n, each in settings.cosines.items()}
        self.frechet = Frechet(settings.fid) if settings.fid is not None else None
        self.all = settings.references == "all"
        self.metric = next(iter(self.cosines))

    @property
    def variant(self) -> str:
        """The encoder of the headline."""
        return self.cosines[self.metric].name

    def lacks(self) -> list[UserError]:
        return [error for each in self._measures for error in each.lacks()]

    def fetch(self) -> None:
        together(each.fetch for each in self._measures)

    def try_out(self) -> None:
        checks = [partial(each.try_out, n == "clip_t") for n, each in self.cosines.items()]
        together([*checks, self.frechet.try_out] if self.frechet is not None else checks)

    @property
    def _measures(self) -> list[Likeness | Frechet]:
        return [*self.cosines.values(), *([self.frechet] if self.frechet is not None else [])]

    def prepare(
        self, answered: Iterable[tuple[Sample, Response]], progress: Progress | None = None
    ) -> None:
        given = [(sample, drawn(response)) for sample, response in answered]
        for name, likeness in self.cosines.items():
            wanted = list(chain.from_iterable(self._against(name, sample) for sample, _ in given))
            shown = [part for part in wanted if isinstance(part, Image)]
            texts = [part for part in wanted if isinstance(part, str)]
            likeness.learn([*shown, *(image for _, image in given)], texts, progress)
        if self.frechet is not None:
            real = chain.from_iterable(matched(sample) for sample, _ in given)
            self.frechet.learn((image for _, image in given), real, progress)

    def score(self, sample: Sample, response: Response) -> Score:
        image = drawn(response)
        details: dict[str, float | str] = {}
        if self.frechet is not None:
            self.frechet.check(sample, image)
            details["image"] = images.digest(image)
        for name, likeness in self.cosines.items():
            found = [likeness.cosine(image, other) for other in self._against(name, sample)]
            if found:
                details[name] = math.fsum(found) / len(found)
        headline = details.get(next(iter(self.cosines)))
        if not isinstance(headline, float):
            return unreferenced(details)
        return Score(headline, details=details)

    def notes(self) -> tuple[str, ...]:
        notes = [f"{n}: {likeness.note}" for n, likeness in self.cosines.items()]
        return (*notes, self.frechet.note) if self.frechet is not None else tuple(notes)

    def encoders(self) -> Mapping[tuple[str, str | None], str]:
        found: dict[tuple[str, str | None], str] = {
            (name, likeness.name): likeness.short for name, likeness in self.cosines.items()
        }
        if self.frechet is not None:
            found[FID, self.frechet.variant] = self.frechet.short
        return found

    def summaries(self) -> tuple[Summary, ...]:
        cosines: list[Summary] = []
        for name, likeness in self.cosines.items():
            # The headline is the value itself, which is all that a reference run keeps.
            mean = ClusteredMean(self.scale, of=name if cosines else None, bounded=False)
            cosines.append(Summary(name, mean, likeness.name, digits=3))
        if self.frechet is None:
            return tuple(cosines)
        distance = Summary(
            FID,
            FrechetDistance(self.frechet),
            self.frechet.variant,
            higher_is_better=False,
            set_scaled=True,
            whole=True,
        )
        return (*cosines, distance)

    def _against(self, name: str, sample: Sample) -> list[Image | str]:
        """What an image is compared with."""
        kind = str if name == "clip_t" else Image
        found = [reference for reference in sample.references if isinstance(reference, kind)]
        return found if self.all and kind is Image else found[:1]
