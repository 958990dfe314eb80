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


def _whole(text: str, options: Options) -> str | None:
    return text if text in letters(options) else None


def _first_letter(text: str, options: Options) -> str | None:
    return _whole(text.strip()[:1].upper(), options)


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


class _VLMEvalKit:
    """VLMEvalKit's exact matching, `can_infer` of vlmeval/utils/matching_util.py, in its versions.

    late: a letter that stands alone counts among the last so many words only, a content only in a reply of at
    most twice the options' length; announced: else the first "answer is B" counts.
    A refusal, or a Z that stands alone, is no option, whatever else is said.

    >>> four = ("a red car", "a blue bus", "a green bike", "none of these")
    >>> said = ("A man is standing next to a blue bus in the street", "Cannot determine, Z", "(B)", "b")
    >>> [_VLMEVALKIT_2024(text, four) for text in said]
    ['A', None, 'B', None]
    >>> [_VLMEVALKIT_2025_08(text, four) for text in said]
    ['B', None, 'B', None]
    """

    def __init__(self, late: int | None = None, announced: bool = False):
        self.late = late
        self.announced = announced

    def __call__(self, text: str, options: Options) -> str | None:
        read = self._option(text, letters(options))
        if read is None:
            read = self._content(text, options)
        return read if read != "Z" or "Z" in letters(options) else None

    def _option(self, text: str, named: tuple[str, ...]) -> str | None:
        if _NO_ANSWER not in text and any(refusal in text for refusal in _REFUSALS):
            return "Z"
        words = text.translate(_MARKS).split() if _NO_ANSWER not in text else []
        standing = [letter for letter in named if letter in words]
        if len(standing) == 1:
            place = words.index(standing[0])
            if self.late is None or place >= len(words) - self.late:
                return standing[0]
        elif not standing and "Z" in words:
            return "Z"
        if self.announced and _NO_ANSWER not in text:
            found = _ANSWER_IS.search(text)
            if found and found[1].upper() in named:
                return found[1].upper()
        return None

    def _content(self, text: str, options: Options) -> str | None:
        said = text.lower()
        if self.late is not None and len(said) > 2 * sum(map(len, options)):
            return None
        pairs = zip(letters(options), options, strict=True)
        quoted = [letter for letter, option in pairs if option.lower() in said]
        return quoted[0] if len(quoted) == 1 else None


_NO_ANSWER = "Failed to obtain answer via API"
_REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
_MARKS = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_ANSWER_IS = re.compile(r"(?i)(?:correct\s+)?answer\s+is\s+\**([ABCD])\**")
_VLMEVALKIT_2024 = _VLMEvalKit()
_VLMEVALKIT_2025_08 = _VLMEvalKit(late=4)
_VLMEVALKIT_2026_06 = _VLMEvalKit(late=4, announced=True)


@dataclass(frozen=True, slots=True)
class LetterRule:
    """read: (reply, contents of the options) -> a letter, or None where it finds none: then it is wrong."""

    about: str
    read: Callable[[str, Options], str | None]


# fmt: off
Rule = Literal[
    "exact", "first_letter", "scienceqa", "vlmevalkit-2024", "vlmevalkit-2025-08", "vlmevalkit-2026-06",
]
# fmt: on

RULES: Mapping[Rule, LetterRule] = {
    "exact": LetterRule("LLaVA on SEED-Bench: the whole reply is the letter", _whole),
    "first_letter": LetterRule(
        "lmms-eval (75571cf): the first character is the letter, in either case", _first_letter
    ),
    "scienceqa": LetterRule(
        'LLaVA: the letter, "B. " at the beginning, or "The answer is B." once', _scienceqa
    ),
    "vlmevalkit-2024": LetterRule(
        "VLMEvalKit's exact matching until July 2025 (c6bdffd): the one option's letter that stands as a "
        "word, else the one content that is quoted; no judge is asked about the rest",
        _VLMEVALKIT_2024,
    ),
    "vlmevalkit-2025-08": LetterRule(
        "the same from August 2025 (c337155): the letter among the last four words only, a content only in "
        "a reply of at most twice the options' length",
        _VLMEVALKIT_2025_08,
    ),
    "vlmevalkit-2026-06": LetterRule(
        'the same from June 2026 (a67ace5, 2cf2a36): where no letter stands alone, "answer is B" counts too',
        _VLMEVALKIT_2026_06,
    ),
}


def letters(options: Options) -> tuple[str, ...]:
    """A, B, C … for as many options as there are."""
    if len(options) > len(ascii_uppercase):
        raise ScoringError(
            f"{len(options)} options, but there are only {len(ascii_uppercase)} letters"
        )
    return tuple(ascii_uppercase[: len(options)])


class LetterAccuracy(Scorer):
    """1 if the letter read from the reply is a reference. `rule`: one of RULES.

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
