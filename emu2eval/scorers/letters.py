"""Multiple choice answered with a letter: how each benchmark's code reads the letter out of a reply.

The rules in circulation give different numbers on the same replies, so each has a name, and the name
is stored with every score.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from string import ascii_uppercase
from typing import Literal

from emu2eval.scorers.base import Scorer, ScoringError, Summary, text_of, texts, unreferenced
from emu2eval.statistics.estimates import AllOrNothing, ClusteredMean
from emu2eval.types import Response, Sample, Score

Options = tuple[str, ...]
_THE_ANSWER_IS = re.compile(r"The answer is ([A-Z]).")
_MMBENCH_MARKS = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))


def _whole(text: str, options: Options) -> str | None:
    return text if text in letters(options) else None


def _first_letter(text: str, options: Options) -> str | None:
    return _whole(text.strip()[:1], options)


def _scienceqa(text: str, options: Options) -> str | None:
    """
    >>> four = ("w", "x", "y", "z")
    >>> [_scienceqa(t, four) for t in ("B", "B. x", "So: The answer is B.", "B.", "The answer is B")]
    ['B', 'B', 'B', None, None]
    """
    if text in tuple("ABCDE"):
        read = text
    elif len(text) >= 3 and text[0] in "ABCDE" and text[1:3] == ". ":
        read = text[0]
    else:
        found = _THE_ANSWER_IS.findall(text)
        read = found[0] if len(found) == 1 else ""
    return _whole(read, options)


def _mmbench(text: str, options: Options) -> str | None:
    """
    >>> four = ("cat", "dog", "cow", "hen")
    >>> [_mmbench(t, four) for t in ("(B)", "It is a dog.", "B or C", "a cat and a dog", "b")]
    ['B', 'B', None, None, None]
    """
    words = text.translate(_MMBENCH_MARKS).split()
    named = [letter for letter in letters(options) if letter in words]
    if len(named) == 1:
        return named[0]
    if not named and "Z" in words:
        return None
    said = text.lower()
    if len(said) > 2 * sum(map(len, options)):
        return None
    quoted = [
        x for x, option in zip(letters(options), options, strict=True) if option.lower() in said
    ]
    return quoted[0] if len(quoted) == 1 else None


@dataclass(frozen=True, slots=True)
class LetterRule:
    """read: (reply, contents of the options) -> a letter, or None where it finds none: then it is wrong."""

    about: str
    read: Callable[[str, Options], str | None]


Rule = Literal["exact", "first_letter", "scienceqa", "mmbench"]

RULES: Mapping[Rule, LetterRule] = {
    "exact": LetterRule("LLaVA on SEED-Bench: the whole reply is the letter", _whole),
    "first_letter": LetterRule("lmms-eval: the first character is the letter", _first_letter),
    "scienceqa": LetterRule(
        'LLaVA: the letter, "B. " at the beginning, or "The answer is B." once', _scienceqa
    ),
    "mmbench": LetterRule(
        "VLMEvalKit's exact matching: one option's letter as a word, else one option's content; "
        "no judge is asked about the rest",
        _mmbench,
    ),
}


def letters(options: Options) -> tuple[str, ...]:
    """A, B, C … for as many options as there are."""
    if len(options) > len(ascii_uppercase):
        raise ScoringError(f"{len(options)} options; there are letters for {len(ascii_uppercase)}")
    return tuple(ascii_uppercase[: len(options)])


class LetterAccuracy(Scorer):
    """1 where the letter read out of the reply is a reference. `rule`: one of RULES.

    circular: a sample is one rotation of a question's options; its `cluster` is the question, its
    field `rotation` which one it is (0 = as given) of how many, `rotations`. The headline is then
    MMBench's CircularEval (Liu et al., 2023, arXiv 2307.06281): the share of questions right in every
    rotation; those not all of whose rotations are scored are left out of it. Beside it stands the
    plain accuracy, each question asked once.
    """

    def __init__(self, rule: Rule = "exact", circular: bool = False):
        self.rule: Rule = rule
        self.circular = circular
        self.metric = "circular_accuracy" if circular else "accuracy"

    @property
    def variant(self) -> str:
        return self.rule

    def score(self, sample: Sample, response: Response) -> Score:
        references = texts(sample.references, sample.id)
        if not sample.choices:
            raise ScoringError(f"sample {sample.id!r} has no options to choose from")
        read = RULES[self.rule].read(text_of(response), sample.choices)
        if not references:
            return replace(unreferenced(), prediction=read)
        value = float(read in references)
        details: dict[str, object] = {} if read is not None else {"unread": True}
        if self.circular and sample.fields.get("rotation") == "0":
            details["as_given"] = value
        return Score(value, read, details)

    def summaries(self) -> tuple[Summary, ...]:
        if not self.circular:
            return super().summaries()
        return (
            Summary(self.metric, AllOrNothing(_rotations, self.scale), self.rule),
            Summary("accuracy", ClusteredMean(self.scale, of="as_given"), self.rule),
        )


def _rotations(sample: Sample) -> int:
    return int(sample.fields["rotations"])
