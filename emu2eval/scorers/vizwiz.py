"""VizWiz's two tasks by one answer: VQA accuracy, and telling which questions cannot be answered."""

from __future__ import annotations

from emu2eval.scorers.base import Summary
from emu2eval.scorers.detection import F1, AveragePrecision
from emu2eval.scorers.vqa import Name, VQAAccuracy, normalise, plain
from emu2eval.statistics.estimates import ClusteredMean
from emu2eval.types import Response, Sample, Score

UNANSWERABLE = "unanswerable"


class VizWiz(VQAAccuracy):
    """VQA accuracy as the VizWiz API has it, then average precision and F1 of answerability.

    In both the unanswerable questions are the positive class, as in the API. Its second task takes a
    confidence; here it is 1 where the answer is "unanswerable" and else 0, which the labels say.
    variant: as of `vqa_accuracy`.
    """

    def __init__(self, variant: Name = "vizwiz"):
        super().__init__(variant)

    def score(self, sample: Sample, response: Response) -> Score:
        score = super().score(sample, response)
        if score.value is None or "answerable" not in sample.groups:
            return score
        said = normalise(plain(response.text or "")) == UNANSWERABLE
        details = {"evidence": float(said), "positive": sample.groups["answerable"] == "no"}
        return Score(score.value, score.prediction, details)

    def summaries(self) -> tuple[Summary, ...]:
        return (
            Summary(self.metric, ClusteredMean(self.scale), self.variant),
            Summary("unanswerable_ap", AveragePrecision(self.scale), "of_answers"),
            Summary("unanswerable_f1", F1(self.scale), "of_answers"),
        )
