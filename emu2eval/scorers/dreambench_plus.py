"""DreamBench++ (Peng et al., 2025; github.com/yuangpeng/dreambench_plus, eval_*.py and benchmarking.py)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

from emu2eval.errors import UserError
from emu2eval.scorers.base import Summary, drawn, unreferenced
from emu2eval.scorers.images import CosineSettings, Images, ImagesSettings
from emu2eval.scorers.judged import JudgedScorer, Shown, Wording
from emu2eval.spec.settings import Count, Settings
from emu2eval.statistics.bootstrap import BootstrapOfSums
from emu2eval.statistics.estimates import ClusteredMean
from emu2eval.types import Image, Progress, Response, Sample, Score, TextOutput

Kind = Literal["subject", "style", "prompt"]
_FIELDS: Mapping[Kind, tuple[str, ...]] = {
    "subject": ("reference", "image"),
    "style": ("reference", "image"),
    "prompt": ("prompt", "image"),
}
_SCORE = re.compile(r"[Ss]core:\s*[a-zA-Z]*\s*(\d+)")
_BEST = 4


class WordingFiles(Settings):
    """YAML files in place of our own words, see `Wording`."""

    subject: str | None = None
    style: str | None = None
    prompt: str | None = None


class DreamBenchPlusSettings(CosineSettings):
    """rounds: how often each is graded (officially thrice; its mean is the mean of three means).

    dino, clip_i, clip_t: as of the scorer `images`, numbers that need no judge.
    """

    rounds: Count = 1
    wordings: WordingFiles = WordingFiles()


class DreamBenchPlus(JudgedScorer):
    """A judge's grades from 0 to 4, over 4: `concept` = the reference is kept, asked about subjects and
    styles in words of their own; `prompt` = it is followed. The headline is the product of both means.

    A sample without a readable grade in every round has none; officially it is left out, too.
    """

    scale = 1.0
    outputs = frozenset({"image"})
    reply: ClassVar[TextOutput] = TextOutput(max_new_tokens=128)

    def __init__(self, settings: DreamBenchPlusSettings):
        self.wordings = {
            kind: Wording.read(f"dreambench_plus_{kind}", getattr(settings.wordings, kind), fields)
            for kind, fields in _FIELDS.items()
        }
        self.wording = self.wordings["subject"]
        self.rounds = {
            figure: tuple(f"{figure} {number}" for number in range(1, settings.rounds + 1))
            for figure in ("concept", "prompt")
        }
        self.names = (*self.rounds["concept"], *self.rounds["prompt"])
        self.images = None
        if settings.cosines:
            self.images = Images(
                ImagesSettings(dino=settings.dino, clip_i=settings.clip_i, clip_t=settings.clip_t)
            )
        self.optional = self.images is not None
        self.metric = self.images.metric if self.images is not None else "concept_x_prompt"

    @property
    def variant(self) -> str:
        return self.images.variant if self.images is not None else self._wordings

    def lacks(self) -> list[UserError]:
        return self.images.lacks() if self.images is not None else []

    def fetch(self) -> None:
        if self.images is not None:
            self.images.fetch()

    def try_out(self) -> None:
        if self.images is not None:
            self.images.try_out()

    def prepare(
        self, answered: Iterable[tuple[Sample, Response]], progress: Progress | None = None
    ) -> None:
        if self.images is not None:
            self.images.prepare(answered, progress)

    def score(self, sample: Sample, response: Response) -> Score:
        if self.images is None:
            return super().score(sample, response)
        return self.images.score(sample, response)

    def words(self, sample: Sample, name: str) -> Wording:
        return self.wordings[_asked(sample, name)]

    def every_wording(self) -> tuple[Wording, ...]:
        return tuple(self.wordings.values())

    def question(self, sample: Sample, response: Response, name: str) -> Mapping[str, Shown]:
        shown: dict[str, Shown] = {"image": drawn(response)}
        if _asked(sample, name) == "prompt":
            return shown | {"prompt": sample.fields["prompt"]}
        return shown | {"reference": _reference(sample)}

    def read(self, reply: str) -> int | None:
        """The one grade that the reply states.

        >>> scorer = DreamBenchPlus(DreamBenchPlusSettings())
        >>> [scorer.read(r) for r in ("Too red. Score: 3", "score: very good 4", "3", "Score: 9")]
        [3, None, None, None]
        """
        found = [int(number) for number in _SCORE.findall(reply)]
        return found[0] if len(found) == 1 and found[0] <= _BEST else None

    def judged(self, sample: Sample, response: Response, said: Mapping[str, Any]) -> Score:
        if not sample.references:
            return unreferenced()
        figures: dict[str, float] = {}
        unread: list[str] = []
        for figure, names in self.rounds.items():
            grades = [said[name] for name in names]
            unread += [name for name in names if said[name] is None]
            if None not in grades:
                figures[figure] = math.fsum(grades) / len(grades) / _BEST
        details: dict[str, Any] = {**figures, "grades": dict(said)}
        why = f"no grade could be read: {', '.join(unread)}" if unread else None
        if self.images is not None:
            score = self.score(sample, response)
            return replace(score, details={**score.details, **details}, unjudged=why)
        if unread:
            return Score(None, details=details, why=why)
        return Score(figures["concept"] * figures["prompt"], details=details)

    def notes(self) -> tuple[str, ...]:
        return self.images.notes() if self.images is not None else ()

    def summaries(self) -> tuple[Summary, ...]:
        product = BootstrapOfSums(_parts, lambda s: s[:, 0] * s[:, 1] / s[:, 2] ** 2, self.scale)
        own = (
            Summary("concept_x_prompt", product, self._wordings),
            *(Summary(name, ClusteredMean(of=name), self._wordings) for name in self.rounds),
        )
        if self.images is None:
            return own
        automatic = (replace(summary, judged=False) for summary in self.images.summaries())
        return *own, *automatic

    @property
    def _wordings(self) -> str:
        return "+".join(dict.fromkeys(wording.name for wording in self.wordings.values()))


def _asked(sample: Sample, name: str) -> Kind:
    if name.startswith("prompt"):
        return "prompt"
    return "style" if sample.fields["kind"] == "style" else "subject"


def _reference(sample: Sample) -> Image:
    return next(part for part in sample.references if isinstance(part, Image))


def _parts(sample: Sample, score: Score) -> tuple[float, float, float] | None:
    found = [score.details.get(figure) for figure in ("concept", "prompt")]
    return (found[0], found[1], 1.0) if None not in found else None  # type: ignore[return-value]
