"""Images scored by features: CLIP-I, CLIP-T, DINO and FID.

CLIP-I and DINO (Ruiz et al., DreamBooth, arXiv 2208.12242) are cosines with real images, CLIP-T with a
text. The encoders and the pairs decide the value, so the label names the encoder, and the task the pairs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import partial
from itertools import chain
from typing import Any, Literal

from emu2eval.encoders.base import Encoder
from emu2eval.errors import ConfigError, UserError, together
from emu2eval.media import images
from emu2eval.scorers.base import Scorer, Summary, drawn, unreferenced
from emu2eval.scorers.frechet import Frechet, FrechetDistance, frechet, matched
from emu2eval.scorers.likeness import Likeness
from emu2eval.statistics.estimates import ClusteredMean
from emu2eval.types import Image, Progress, Response, Sample, Score

FID = "fid"

Wanted = Mapping[str, Any] | None


class Images(Scorer):
    """Each number is a cosine, averaged over the images; details hold each image's own.

    dino, clip_i: with the sample's image references; clip_t: with its text reference. Each is the
    {encoder, preprocessing} of `Likeness`, or absent; the headline is the first of them in this order.
    fid: the options of `Frechet`, or absent; of all images together.
    references: with which of a sample's real images: its first, or all, over which an image's mean is
    taken, so that each image counts alike.
    """

    scale = 1.0
    outputs = frozenset({"image"})

    def __init__(
        self,
        dino: Wanted = None,
        clip_i: Wanted = None,
        clip_t: Wanted = None,
        fid: Wanted = None,
        references: Literal["first", "all"] = "first",
    ):
        if references not in ("first", "all"):
            raise ConfigError(
                f"the scorer's option references is {references!r}", hint="it is first or all"
            )
        named = {"dino": dino, "clip_i": clip_i, "clip_t": clip_t}
        loaded: dict[str, Encoder] = {}
        self.cosines = {n: likeness(n, options, loaded) for n, options in named.items() if options}
        self.frechet = frechet(fid) if fid else None
        if not self.cosines:
            # Each image has a value of its own, which FID alone does not give.
            raise ConfigError(
                "the scorer 'images' has no encoder",
                hint="at least one of the options " + ", ".join(named),
            )
        self.all = references == "all"
        self.metric = next(iter(self.cosines))

    @property
    def variant(self) -> str:
        """The encoder of the headline."""
        return self.cosines[self.metric].name

    def lacks(self) -> list[UserError]:
        return [error for each in self._measures for error in each.lacks()]

    def fetch(self) -> None:
        for each in self._measures:
            each.fetch()

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


def likeness(
    name: str, options: Mapping[str, Any], loaded: dict[str, Encoder] | None = None
) -> Likeness:
    """The encoder of one number, from its part of a task's YAML: {encoder, preprocessing}.

    loaded: as of `Likeness`. Raises ConfigError for other keys.
    """
    key = f"task.score.options.{name}"
    unknown = [option for option in options if option not in ("encoder", "preprocessing")]
    if unknown or not isinstance(options.get("encoder"), str):
        raise ConfigError(
            f"{key} has to name an encoder" if not unknown else f"{key} has no key {unknown[0]!r}",
            hint="it is {encoder: PATH_OR_HUB_ID}, and maybe preprocessing: {…}",
        )
    return Likeness(
        options["encoder"],
        options.get("preprocessing"),
        setting=f"{key}.encoder",
        instead=f"without this number: --set {key}=null",
        loaded=loaded,
    )
