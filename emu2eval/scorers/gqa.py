"""GQA's accuracy and consistency (Hudson and Manning, 2019; the data set's eval.py)."""

from __future__ import annotations

from emu2eval.scorers.base import Scorer, Summary, text_of, texts, unreferenced
from emu2eval.statistics.estimates import Accumulator, ClusteredMean, ValueRange
from emu2eval.types import Response, Sample, Score


class GQA(Scorer):
    """1 if the answer equals the reference exactly: the official script does not normalise.

    Accuracy is over the balanced questions; others are unscored. consistency: they are scored too, though
    not in the accuracy, and a second row gives the official consistency. That needs a split with all
    questions: the row is empty where an entailed question was not scored.
    """

    metric = "exact_match"

    def __init__(self, consistency: bool = False):
        self.consistency = consistency

    def score(self, sample: Sample, response: Response) -> Score:
        references = texts(sample.references, sample.id)
        if not references:
            return unreferenced()
        guess = text_of(response)
        right = float(guess in references)
        if sample.fields.get("balanced") != "no":
            return Score(right, guess, {"balanced": right})
        if self.consistency:
            return Score(right, guess)
        return Score(None, guess, why="not a balanced question")

    def summaries(self) -> tuple[Summary, ...]:
        accuracy = Summary(self.metric, ClusteredMean(self.scale, of="balanced"))
        if not self.consistency:
            return (accuracy,)
        return (accuracy, Summary("consistency", Consistency(self.scale)))


class Consistency(Accumulator):
    """Over the balanced questions answered right: the share right of the questions that each entails.

    Entailed questions are the field `entailed`, a question itself left out. The mean over trials of an
    entailed question counts; the error is clustered as everywhere.
    """

    def __init__(self, scale: float = 100.0):
        self.scale = scale
        self.right: dict[str, list[float]] = {}
        self.premises: list[tuple[Sample, list[str]]] = []

    def add(self, sample: Sample, score: Score) -> None:
        if score.value is None:
            return
        self.right.setdefault(sample.id, []).append(score.value)
        entailed = [i for i in sample.fields.get("entailed", "").split() if i != sample.id]
        if score.details.get("balanced") == 1 and entailed:
            self.premises.append((sample, entailed))

    def result(self) -> tuple[float | None, float | None]:
        return self._mean().result()

    def undefined(self) -> str | None:
        lost = bool(self.premises) and not self._mean().sums
        return "an entailed question was not scored" if lost else None

    def bounds(self) -> ValueRange | None:
        return self._mean().bounds()

    def _mean(self) -> ClusteredMean:
        """Empty where an entailed question was not scored."""
        mean = ClusteredMean(self.scale)
        for sample, entailed in self.premises:
            shares = [self.right.get(i) for i in entailed]
            known = [sum(share) / len(share) for share in shares if share]
            if len(known) < len(entailed):
                return ClusteredMean(self.scale)
            mean.add(sample, Score(sum(known) / len(known)))
        return mean
