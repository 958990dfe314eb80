"""TouchStone (Bai et al., 2023, arXiv 2308.16890; github.com/OFA-Sys/TouchStone, 3d85f92, eval.py)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from emu2eval.scorers.base import Summary, text_of, texts, unreferenced
from emu2eval.scorers.judged import JudgedScorer, Wording
from emu2eval.statistics.estimates import Accumulator, ClusteredMean
from emu2eval.types import Response, Sample, Score, TextOutput

ANSWER_SECOND, ANSWER_FIRST = "the model second", "the model first"


class TouchStone(JudgedScorer):
    """Rated beside a reference answer, from 1 to 10 as the judge is told, in both orders; 100 x the mean
    over all rounds.

    A round whose reply cannot be read is dropped, as officially; a sample without any round is unscored.
    The sample's field `description` is a person's description of the image, its reference the answer that
    the model is compared with. wording: a YAML file in place of our own words, see `Wording`.
    """

    metric = "touchstone"
    reply: ClassVar[TextOutput] = TextOutput(max_new_tokens=32)
    names = (ANSWER_SECOND, ANSWER_FIRST)

    def __init__(self, wording: str | None = None):
        needed = ("description", "question", "first", "second")
        self.wording = Wording.read("touchstone", wording, needed)

    def question(self, sample: Sample, response: Response, name: str) -> Mapping[str, str]:
        (reference,) = texts(sample.references, sample.id) or ("",)
        answers = [reference, text_of(response)]
        if name == ANSWER_FIRST:
            answers.reverse()
        shown = {key: sample.fields[key] for key in ("description", "question")}
        return shown | {"first": answers[0], "second": answers[1]}

    def read(self, reply: str) -> list[float] | None:
        """The two numbers of the first line, one space between them, whatever they are, as officially.

        >>> scorer = TouchStone()
        >>> [scorer.read(reply) for reply in ("7 8.5\\nFor", "0 5", "7, 8", "7  8", "Both: 7 8")]
        [[7.0, 8.5], [0.0, 5.0], None, None, None]
        """
        words = reply.strip().partition("\n")[0].strip().split(" ")
        try:
            ratings = [float(word) for word in words]
        except ValueError:
            return None
        # Officially even nan is a rating; a mean would be lost to it.
        return ratings if len(ratings) == 2 and all(map(math.isfinite, ratings)) else None

    def judged(self, sample: Sample, response: Response, said: Mapping[str, Any]) -> Score:
        if not sample.references:
            return unreferenced()
        own = {ANSWER_SECOND: 1, ANSWER_FIRST: 0}
        ratings = [said[name][own[name]] for name in self.names if said[name] is not None]
        prediction = text_of(response)
        if not ratings:
            why = "no ratings could be parsed from the judge's reply"
            return Score(None, prediction, why=why)
        return Score(sum(ratings) / len(ratings), prediction, {"ratings": ratings})

    def summaries(self) -> tuple[Summary, ...]:
        return (Summary(self.metric, MeanRating(self.scale), self.variant),)


class MeanRating(Accumulator):
    """The mean over rounds, not over samples: one with a single readable round counts half of another."""

    def __init__(self, scale: float):
        self.rounds = ClusteredMean(scale)

    def add(self, sample: Sample, score: Score) -> None:
        for rating in score.details["ratings"]:
            self.rounds.add(sample, Score(rating))

    def result(self) -> tuple[float | None, float | None]:
        return self.rounds.result()
