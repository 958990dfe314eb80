"""POPE (Li et al., 2023): yes/no replies, and the five numbers made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from emu2eval.scorers.base import Scorer, ScoringError, Summary, text_of, texts, unreferenced
from emu2eval.statistics.estimates import ClusteredRatio
from emu2eval.types import Response, Sample, Score


def _official(reply: str) -> str:
    """
    >>> [_official(t) for t in ("No, there is none.", "there is not", "NO", "", "nothing", "Yes. No.")]
    ['no', 'no', 'yes', 'yes', 'yes', 'yes']
    """
    words = reply.partition(".")[0].replace(",", "").split(" ")
    return "no" if "No" in words or "not" in words or "no" in words else "yes"


def _whole(reply: str) -> str:
    return reply.lower().strip()


def _f1(truth: str, said: str) -> tuple[float, float]:
    hit = float(truth == said == "yes")
    return 2 * hit, 2 * hit + (truth == "no" and said == "yes") + (truth == "yes" and said == "no")


def _accuracy(truth: str, said: str) -> tuple[float, float]:
    return float(truth == said), 1.0


def _precision(truth: str, said: str) -> tuple[float, float]:
    return float(truth == said == "yes"), float(said == "yes")


def _recall(truth: str, said: str) -> tuple[float, float]:
    # What is neither yes nor no misses nothing: so lmms-eval counts, and the official rule reads all.
    return float(truth == said == "yes"), float(truth == "yes" and said in ("yes", "no"))


def _said_yes(truth: str, said: str) -> tuple[float, float]:
    return float(said == "yes"), 1.0


def _is_yes(truth: str, said: str) -> tuple[float, float]:
    return float(truth == "yes"), 1.0


NUMBERS = {
    "f1": _f1,
    "accuracy": _accuracy,
    "precision": _precision,
    "recall": _recall,
    "yes_ratio": _said_yes,
}
LMMS_EVAL = {**NUMBERS, "yes_ratio": _is_yes}
"""What lmms-eval calls yes_ratio looks at the labels alone."""


@dataclass(frozen=True, slots=True)
class YesNoRule:
    """read: reply -> "yes" or "no"; anything else is neither and wrong.

    numbers: what label and reply add to numerator and denominator of each; pooled: of all files together.
    """

    about: str
    read: Callable[[str], str]
    numbers: Mapping[str, Callable[[str, str], tuple[float, float]]]
    pooled: bool = False


Rule = Literal["official", "lmms_eval"]

RULES: Mapping[Rule, YesNoRule] = {
    "official": YesNoRule(
        "github.com/AoiDragon/POPE: no where the first sentence holds No, not or no; else yes",
        _official,
        NUMBERS,
    ),
    "lmms_eval": YesNoRule(
        "lmms-eval (75571cf): the whole reply, in lower case, is yes or no; all files are pooled, and "
        "yes_ratio is the share of labels that are yes",
        _whole,
        LMMS_EVAL,
        pooled=True,
    ),
}


class YesNo(Scorer):
    """F1, accuracy, precision, recall (all of "yes") and the share of replies read as yes.

    by: the group whose labels are files of their own. Each number is that of each file, averaged over
    them, as papers average POPE's three, unless the rule pools them; a precision without any yes is no
    number. rule: one of RULES.
    """

    metric = "f1"

    def __init__(self, rule: Rule = "official", by: str = "category"):
        self.rule: Rule = rule
        self.by = by

    @property
    def variant(self) -> str:
        return self.rule

    def score(self, sample: Sample, response: Response) -> Score:
        references = texts(sample.references, sample.id)
        said = RULES[self.rule].read(text_of(response))
        if not references:
            return replace(unreferenced(), prediction=said)
        if references[0] not in ("yes", "no"):
            raise ScoringError(
                f"the reference of sample {sample.id!r} is {references[0]!r}, not yes or no"
            )
        return Score(float(said == references[0]), said)

    def summaries(self) -> tuple[Summary, ...]:
        rule = RULES[self.rule]
        by = None if rule.pooled else self.by
        return tuple(
            Summary(name, ClusteredRatio(partial(_parts, number), self.scale, by), self.rule)
            for name, number in rule.numbers.items()
        )


def _parts(
    number: Callable[[str, str], tuple[float, float]], sample: Sample, score: Score
) -> tuple[float, float]:
    return number(str(sample.references[0]), score.prediction or "")
