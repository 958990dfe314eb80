"""DreamBench++ (Peng et al., 2025; github.com/yuangpeng/dreambench_plus, 66ca27e: eval_*.py and
benchmarking.py)."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np

from emu2eval.errors import UserError
from emu2eval.scorers.base import Summary, drawn, unreferenced
from emu2eval.scorers.images import CosineSettings, Images, ImagesSettings
from emu2eval.scorers.judged import JudgedScorer, Shown, Wording
from emu2eval.spec.settings import Count, Settings
from emu2eval.statistics.bootstrap import Array, BootstrapOfSums
from emu2eval.statistics.estimates import ClusteredMean, Linearized, ValueRange
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
    """YAML files in place of our own words, see `Wording`.

    subject, style, prompt: of the question about it; null = our own.
    """

    subject: str | None = None
    style: str | None = None
    prompt: str | None = None


class DreamBenchPlusSettings(CosineSettings):
    """rounds: how often each is graded (officially three times; the result is the mean of three means).

    dino, clip_i, clip_t: as in the scorer `images`; these numbers do not need a judge.
    wordings: YAML files in place of our own words, see `Wording`.
    """

    rounds: Count = 1
    wordings: WordingFiles = WordingFiles()


class DreamBenchPlus(JudgedScorer):
    """A judge's grades, over 4, the best that it is told: `concept` = the reference is kept, asked about
    subjects and styles in words of their own; `prompt` = it is followed. Each is the mean of the rounds'
    means; the headline is the product of both.

    A round counts the samples whose grade can be read in it, as officially. A sample that has no readable
    grade of one figure has a part in the other one alone, and counts as unscored.
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
        """The one grade that the reply states, whatever it is, as officially.

        >>> scorer = DreamBenchPlus(DreamBenchPlusSettings())
        >>> [scorer.read(r) for r in ("Too red. Score: 3", "score: good 4", "3", "Score: 9", "SCORE: 1")]
        [3, 4, None, 9, None]
        """
        found = [int(number) for number in _SCORE.findall(reply)]
        return found[0] if len(found) == 1 else None

    def judged(self, sample: Sample, response: Response, said: Mapping[str, Any]) -> Score:
        if not sample.references:
            return unreferenced()
        figures: dict[str, float] = {}
        for figure, names in self.rounds.items():
            grades = [said[name] for name in names if said[name] is not None]
            if grades:
                figures[figure] = math.fsum(grades) / len(grades) / _BEST
        details: dict[str, Any] = {**figures, "grades": dict(said)}
        unread = [figure for figure in self.rounds if figure not in figures]
        why = f"no grade could be parsed: {', '.join(unread)}" if unread else None
        if self.images is not None:
            score = self.score(sample, response)
            return replace(score, details={**score.details, **details}, unjudged=why)
        if unread and figures:
            return Score(None, details=details, unjudged=why)
        if unread:
            return Score(None, details=details, why=why)
        return Score(figures["concept"] * figures["prompt"], details=details)

    def notes(self) -> tuple[str, ...]:
        return self.images.notes() if self.images is not None else ()

    def summaries(self) -> tuple[Summary, ...]:
        product = BootstrapOfSums(self._grades, _product, self.scale)
        own = (
            Summary("concept_x_prompt", product, self._wordings),
            *(Summary(name, MeanOfRounds(rounds), self._wordings)
              for name, rounds in self.rounds.items()),
        )  # fmt: skip
        if self.images is None:
            return own
        automatic = (replace(summary, judged=False) for summary in self.images.summaries())
        return *own, *automatic

    def _grades(self, sample: Sample, score: Score) -> list[float] | None:
        """For each round of each figure, in order: what was graded, over 4, and whether it was."""
        said = score.details.get("grades")
        if said is None:
            return None
        return [part for name in self.names for part in _graded(said[name])]

    @property
    def _wordings(self) -> str:
        return "+".join(dict.fromkeys(wording.name for wording in self.wordings.values()))


def _asked(sample: Sample, name: str) -> Kind:
    if name.startswith("prompt"):
        return "prompt"
    return "style" if sample.fields["kind"] == "style" else "subject"


def _reference(sample: Sample) -> Image:
    return next(part for part in sample.references if isinstance(part, Image))


def _graded(grade: int | None) -> tuple[float, float]:
    return (0.0, 0.0) if grade is None else (grade / _BEST, 1.0)


def _product(sums: Array) -> Array:
    """Sums (b, d) of `_grades` -> (b,): the product of both figures, each the mean of its rounds' means."""
    halves = np.split(sums, 2, axis=1)
    means = []
    for half in halves:
        total, count = half[:, 0::2], half[:, 1::2]
        means.append(np.where(count > 0, total / count, 0.0).sum(axis=1) / (count > 0).sum(axis=1))
    made: Array = means[0] * means[1]
    return made


class MeanOfRounds(Linearized):
    """The mean over rounds of each round's mean grade, over 4; a round without any grade is none.

    >>> mean = MeanOfRounds(("concept 1", "concept 2"))
    >>> for name, grades in (("a", (4, 0)), ("b", (2, None))):
    ...     said = dict(zip(mean.rounds, grades, strict=True))
    ...     mean.add(Sample(name), Score(1.0, details={"grades": said}))
    >>> mean.value()
    0.375
    """

    def __init__(self, rounds: tuple[str, ...]):
        self.rounds = rounds
        # round -> cluster -> [sum, count]
        self.sums: dict[str, dict[str, list[float]]] = {name: {} for name in rounds}
        self.bounded = ClusteredMean()

    def add(self, sample: Sample, score: Score) -> None:
        cluster = sample.cluster or sample.id
        said = score.details.get("grades") or {}
        for name in self.rounds:
            total, count = _graded(said.get(name))
            if count:
                found = self.sums[name].setdefault(cluster, [0.0, 0.0])
                found[0] += total
                found[1] += count
                self.bounded.add(sample, Score(total))

    def value(self) -> float | None:
        means = [mean for mean, _ in self._means().values()]
        return math.fsum(means) / len(means) if means else None

    def influences(self) -> Mapping[str, float] | None:
        means = self._means()
        moved: defaultdict[str, float] = defaultdict(float)
        for name, (mean, n) in means.items():
            for cluster, (total, count) in self.sums[name].items():
                moved[cluster] += (total - count * mean) / n / len(means)
        return moved if len(moved) > 1 else None

    def bounds(self) -> ValueRange | None:
        return self.bounded.bounds()

    def _means(self) -> dict[str, tuple[float, float]]:
        """Of each round that has a grade its mean, and how many there are."""
        found = {}
        for name, clusters in self.sums.items():
            n = math.fsum(count for _, count in clusters.values())
            if n:
                found[name] = math.fsum(total for total, _ in clusters.values()) / n, n
        return found
