"""Choice accuracy: the choice with the highest log-likelihood is the answer."""

from __future__ import annotations

from emu2eval.scorers.base import Scorer, ScoringError, texts, unreferenced
from emu2eval.scorers.letters import letters
from emu2eval.types import Response, Sample, Score


class ChoiceAccuracy(Scorer):
    """1 if the best choice is a reference. Choices that tie for best share the credit.

    by_letter: the references are letters, A for the first choice, while the contents are ranked.
    """

    metric = "accuracy"
    outputs = frozenset({"choice"})

    def __init__(self, by_letter: bool = False):
        self.by_letter = by_letter

    @property
    def variant(self) -> str | None:
        return "ranked_contents" if self.by_letter else None

    def score(self, sample: Sample, response: Response) -> Score:
        references = texts(sample.references, sample.id)
        choices = sample.choices
        if response.log_probs is None or len(response.log_probs) != len(choices):
            raise ScoringError(
                f"sample {sample.id!r} has {len(choices)} choices, its response "
                f"{len(response.log_probs or ())} log-probabilities"
            )
        if not references:
            return unreferenced()
        best = max(response.log_probs)
        names = letters(choices) if self.by_letter else choices
        winners = [c for c, p in zip(names, response.log_probs, strict=True) if p == best]
        right = sum(winner in references for winner in winners)
        # Taking the first of a tie would reward the order in which choices are listed.
        return Score(
            right / len(winners), "|".join(winners), {"margin": _margin(response.log_probs)}
        )


def _margin(log_probs: tuple[float, ...]) -> float | None:
    ranked = sorted(log_probs, reverse=True)
    return ranked[0] - ranked[1] if len(ranked) > 1 else None
