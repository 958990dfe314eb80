"""MM-Vet (Yu et al., 2023, arXiv 2308.02490; github.com/yuweihao/MM-Vet, mm-vet_evaluator.py)."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, ClassVar

from emu2eval.scorers.base import Summary, text_of, texts, unreferenced
from emu2eval.scorers.judged import UNREADABLE, JudgedScorer, Unreadable, Wording
from emu2eval.spec.settings import Count
from emu2eval.statistics.estimates import Accumulator, ClusteredMean
from emu2eval.types import Response, Sample, Score, TextOutput


class MMVet(JudgedScorer):
    """A judge's grade from 0 to 1, the mean of `rounds` runs (official: 1; MM-Vet's and Emu2's papers: 5).

    The value equals the official one, 100 x the mean over runs of each run's mean.
    wording: a YAML file in place of our own words, see `Wording`. unreadable: what becomes of a sample
    without a readable grade in every run; `wrong` = a grade that cannot be read is zero, as officially.
    rounds: how many times each answer is graded.
    """

    metric = "mm_vet"
    # Officially three tokens. A tokenizer that spends one on white space would then turn 0.8 into 0.
    reply: ClassVar[TextOutput] = TextOutput(max_new_tokens=8)

    def __init__(
        self,
        rounds: Count = 5,
        wording: str | None = None,
        unreadable: Unreadable = "unscored",
    ):
        self.unreadable: Unreadable = unreadable
        self.names = tuple(f"round {number}" for number in range(1, rounds + 1))
        self.wording = Wording.read("mm_vet", wording, ("question", "answer", "prediction"))

    @property
    def variant(self) -> str:
        return f"{self.wording.name}{UNREADABLE[self.unreadable]}"

    def question(self, sample: Sample, response: Response, name: str) -> Mapping[str, str]:
        (answer,) = texts(sample.references, sample.id) or ("",)
        for mark in ("<AND>", "<OR>"):
            answer = answer.replace(mark, f" {mark} ")
        fields = {"question": sample.fields["question"], "answer": answer}
        return fields | {"prediction": text_of(response)}

    def read(self, reply: str) -> float | None:
        """The first word as a number from 0 to 1.

        >>> scorer = MMVet()
        >>> [scorer.read(reply) for reply in ("0.8", "1 because", "0.", "8", "good")]
        [0.8, 1.0, None, None, None]
        """
        word = next(iter(reply.split()), "")
        # Stricter than float(): `0.` is a number that was cut off.
        grade = float(word) if re.fullmatch(r"\d*\.?\d+", word, re.ASCII) else math.inf
        return grade if grade <= 1 else None

    def judged(self, sample: Sample, response: Response, said: Mapping[str, Any]) -> Score:
        if not sample.references:
            return unreferenced()
        grades = [said[name] for name in self.names]
        if self.unreadable == "wrong":
            grades = [0.0 if grade is None else grade for grade in grades]
        prediction = text_of(response)
        if None in grades:
            why = "no grade could be parsed from the judge's reply in " + ", ".join(
                name for name in self.names if said[name] is None
            )
            return Score(None, prediction, {"grades": grades}, why)
        return Score(math.fsum(grades) / len(grades), prediction, {"grades": grades})

    def summaries(self) -> tuple[Summary, ...]:
        mean = Summary(self.metric, ClusteredMean(self.scale), self.variant)
        if len(self.names) == 1:
            return (mean,)
        spread = SpreadOfRuns(self.scale)
        return mean, Summary("mm_vet_std_of_runs", spread, self.variant, higher_is_better=False)


class SpreadOfRuns(Accumulator):
    """The standard deviation of the runs' means, as numpy's `std` (divided by n), which MM-Vet reports.

    >>> spread = SpreadOfRuns(scale=100)
    >>> for number, grades in enumerate([(0.0, 1.0), (0.5, 0.5)]):
    ...     spread.add(Sample(str(number)), Score(0.5, details={"grades": grades}))
    >>> spread.result()
    (25.0, None)
    """

    def __init__(self, scale: float):
        self.scale = scale
        self.runs: defaultdict[int, list[float]] = defaultdict(list)

    def add(self, sample: Sample, score: Score) -> None:
        for run, grade in enumerate(score.details["grades"]):
            self.runs[run].append(grade)

    def result(self) -> tuple[float | None, float | None]:
        if not self.runs:
            return None, None
        means = [math.fsum(grades) / len(grades) for grades in self.runs.values()]
        mean = math.fsum(means) / len(means)
        variance = math.fsum((value - mean) ** 2 for value in means) / len(means)
        return math.sqrt(variance) * self.scale, None
