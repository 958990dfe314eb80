"""Exact match: the answer equals one of the references."""

from __future__ import annotations

from emu2eval.scorers.base import Scorer, text_of, texts, unreferenced
from emu2eval.scorers.vqa import normalise, plain
from emu2eval.types import Response, Sample, Score


class ExactMatch(Scorer):
    """1 if the text equals a reference exactly, otherwise 0.

    normalise: both sides go through the VQA normalisation first. What else should be forgiven, such as
    case or a final period, is a clean-up step of the task.
    """

    metric = "exact_match"

    def __init__(self, normalise: bool = False):
        self.normalise = normalise

    @property
    def variant(self) -> str | None:
        return "normalised" if self.normalise else None

    def score(self, sample: Sample, response: Response) -> Score:
        references = texts(sample.references, sample.id)
        if not references:
            return unreferenced()
        guess = text_of(response)
        if self.normalise:
            guess = normalise(plain(guess))
            references = tuple(normalise(plain(r)) for r in references)
        return Score(float(guess in references), guess)
