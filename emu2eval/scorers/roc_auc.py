"""ROC AUC of ranked answers, the metric of Hateful Memes (Kiela et al., 2020)."""

from __future__ import annotations

import math

from emu2eval.errors import ConfigError
from emu2eval.scorers.base import Scorer, ScoringError, Summary, texts, unreferenced
from emu2eval.scorers.detection import RocAuc
from emu2eval.types import Response, Sample, Score


class RocAucScorer(Scorer):
    """Area under the ROC curve of the probability that the model gives to the answer `positive`.

    value: that probability, by a softmax over the choices. Samples are ranked by its log-odds, which never
    round to 1. The standard error is DeLong's, clustered by image, see `detection.RocAuc`.
    positive: the answer of the positive class.
    """

    metric = "roc_auc"
    outputs = frozenset({"choice"})

    def __init__(self, positive: str = "yes"):
        self.positive = positive

    def score(self, sample: Sample, response: Response) -> Score:
        choices, log_probs = sample.choices, response.log_probs
        if self.positive not in choices or len(choices) < 2:
            raise ConfigError(
                f"the scorer 'roc_auc' ranks by the choice {self.positive!r} against others; sample "
                f"{sample.id!r} has the choices {', '.join(choices) or 'none'}"
            )
        if log_probs is None or len(log_probs) != len(choices):
            raise ScoringError(
                f"sample {sample.id!r} has {len(choices)} choices, its response "
                f"{len(log_probs or ())} log-probabilities"
            )
        by_choice = dict(zip(choices, log_probs, strict=True))
        mine = by_choice.pop(self.positive)
        evidence = mine - _log_sum(list(by_choice.values()))
        value = 1 / (1 + math.exp(-evidence)) if evidence > -700 else 0.0
        best = max(zip(log_probs, choices, strict=True))[1]
        references = texts(sample.references, sample.id)
        if not references:
            return unreferenced({"probability": value})
        details = {"evidence": evidence, "positive": self.positive in references}
        return Score(value, best, details)

    def summaries(self) -> tuple[Summary, ...]:
        return (Summary(self.metric, RocAuc(self.scale)),)


def _log_sum(values: list[float]) -> float:
    most = max(values)
    return most + math.log(math.fsum(math.exp(v - most) for v in values))
