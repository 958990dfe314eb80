"""CoBSAT (Zeng et al., 2024, arXiv 2402.01293; github.com/UW-Madison-Lee-Lab/CoBSAT, a787be5,
evaluation_icl.py)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from emu2eval.errors import UserError
from emu2eval.scorers.base import ScoringError, Summary, drawn, texts, unreferenced
from emu2eval.scorers.judged import UNREADABLE, JudgedScorer, Shown, Unreadable, Wording
from emu2eval.scorers.likeness import Likeness, LikenessSettings
from emu2eval.statistics.estimates import ClusteredMean
from emu2eval.types import Image, Progress, Response, Sample, Score

OBJECT, ATTRIBUTE = "object", "attribute"
FIGURES = ("right", "latent", "non_latent")
_READ = 200
"""Characters of a description that CLIP is shown, as officially."""


class CoBSAT(JudgedScorer):
    """1 if object and attribute are both right, each one of ten; latent, non_latent: each alone.

    clip: {encoder, preprocessing} of a CLIP: the item whose name is most like the image (officially
    clip-vit-base-patch32). A judge, if one is named, chooses among the same items, and adds numbers of its
    own; without clip it is needed. Where the response is a text, it is taken for an image's description.
    wording: a YAML file in place of our own words, see `Wording`. unreadable: what becomes of an answer on
    which no reply can be read; officially it is wrong.
    """

    outputs = frozenset({"image", "text"})
    names = (OBJECT, ATTRIBUTE)

    def __init__(
        self,
        clip: LikenessSettings | None = None,
        wording: str | None = None,
        unreadable: Unreadable = "unscored",
    ):
        self.clip = Likeness(clip, "clip") if clip is not None else None
        self.optional = self.clip is not None
        self.metric = "clip_right" if self.clip is not None else "judged_right"
        self.wording = Wording.read("cobsat", wording, ("image", "question", "options"))
        self.unreadable: Unreadable = unreadable

    @property
    def variant(self) -> str:
        return self.clip.name if self.clip is not None else self._judged_by

    @property
    def _judged_by(self) -> str:
        return f"{self.wording.name}{UNREADABLE[self.unreadable]}"

    def lacks(self) -> list[UserError]:
        return self.clip.lacks() if self.clip is not None else []

    def fetch(self) -> None:
        if self.clip is not None:
            self.clip.fetch()

    def try_out(self) -> None:
        if self.clip is not None:
            self.clip.try_out(words=True)

    def prepare(
        self, answered: Iterable[tuple[Sample, Response]], progress: Progress | None = None
    ) -> None:
        if self.clip is None:
            return
        shown: list[Image] = []
        read: set[str] = set()
        for sample, response in answered:
            given = _given(response)
            (shown.append if isinstance(given, Image) else read.add)(given)  # type: ignore[arg-type]
            read.update(item for name in self.names for item in _items(sample, name))
        self.clip.learn(shown, sorted(read), progress)

    def score(self, sample: Sample, response: Response) -> Score:
        if self.clip is None:
            return super().score(sample, response)
        references = texts(sample.references, sample.id)
        given = _given(response)
        if not references:
            return unreferenced()
        found = {}
        for name in self.names:
            # Officially a negative cosine counts as 0, and the first of the best is taken.
            cosines = {
                item: max(self.clip.cosine(given, item), 0.0) for item in _items(sample, name)
            }
            found[name] = max(cosines, key=lambda item: cosines[item])
        figures = _figures(sample, found)
        said = f"{found[ATTRIBUTE]} {found[OBJECT]}"
        return Score(figures["right"], said, {f"clip_{k}": v for k, v in figures.items()})

    def question(self, sample: Sample, response: Response, name: str) -> Mapping[str, Shown]:
        given = _given(response)
        described = isinstance(given, str)
        options = sample.fields["options"].split("|") if name == ATTRIBUTE else _items(sample, name)
        what = (
            "main object" if name == OBJECT else f"{sample.fields['attribute']} of the main object"
        )
        return {
            "image": f"An image is described so: {given}\n" if described else given,
            "question": f"What is the {what} in this image?",
            "options": " ".join(f"({n}) {option}" for n, option in enumerate(options, 1)),
        }

    def read(self, reply: str) -> int | None:
        """All digits of the reply as one number, as officially.

        >>> scorer = CoBSAT()
        >>> scorer.read("(10) apple"), scorer.read("1 or 2"), scorer.read("a leaf")
        (10, 12, None)
        """
        digits = "".join(c for c in reply if c in "0123456789")
        return int(digits) if digits else None

    def judged(self, sample: Sample, response: Response, said: Mapping[str, Any]) -> Score:
        if not sample.references:
            return unreferenced()
        unread = [name for name in self.names if said[name] is None]
        if unread and self.unreadable == "unscored":
            # The other numbers stand.
            why = f"the judge chose no option for the {' and the '.join(unread)}"
            if self.clip is None:
                return Score(None, why=why)
            return replace(self.score(sample, response), unjudged=why)
        found = {name: _option(sample, name, said[name]) for name in self.names}
        figures = _figures(sample, found)
        told = f"{found[ATTRIBUTE]} {found[OBJECT]}"
        details = {f"judged_{name}": value for name, value in figures.items()}
        if self.clip is None:
            return Score(figures["right"], told, details)
        score = self.score(sample, response)
        return replace(score, details={**score.details, **details, "judged": told})

    def notes(self) -> tuple[str, ...]:
        return (f"clip: {self.clip.note}",) if self.clip is not None else ()

    def encoders(self) -> Mapping[tuple[str, str | None], str]:
        if self.clip is None:
            return {}
        return {(f"clip_{figure}", self.clip.name): self.clip.short for figure in FIGURES}

    def summaries(self) -> tuple[Summary, ...]:
        by_clip = self.clip.name if self.clip is not None else None
        parts = [("clip", by_clip, False)] if by_clip else []
        parts.append(("judged", self._judged_by, True))
        return tuple(
            Summary(name, ClusteredMean(self.scale, of=name), variant, judged=judged)
            for by, variant, judged in parts
            for name in (f"{by}_{figure}" for figure in FIGURES)
        )


def _given(response: Response) -> Image | str:
    if response.text is not None:
        return response.text[:_READ]
    return drawn(response)


def _items(sample: Sample, name: str) -> list[str]:
    return sample.fields[f"{name}s"].split()


def _option(sample: Sample, name: str, number: int | None) -> str:
    items = _items(sample, name)
    return items[number - 1] if number is not None and 1 <= number <= len(items) else "nothing"


def _figures(sample: Sample, found: Mapping[str, str]) -> dict[str, float]:
    """1 or 0 for each figure. found: the object and the attribute that were seen."""
    references = texts(sample.references, sample.id)
    if len(references) != 2:
        raise ScoringError(
            f"the references of sample {sample.id!r} are not an object and an attribute"
        )
    hit = {name: found[name] == references[place] for place, name in enumerate((OBJECT, ATTRIBUTE))}
    latent = sample.fields["latent_is"]
    other = ATTRIBUTE if latent == OBJECT else OBJECT
    return {
        "right": float(all(hit.values())),
        "latent": float(hit[latent]),
        "non_latent": float(hit[other]),
    }
