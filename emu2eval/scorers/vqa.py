"""VQA accuracy: the official scorer (Antol et al., 2015; github.com/GT-Vision-Lab/VQA) and its variants.

The variants in circulation give different numbers on the same answers, so each has a name, and the
name is stored with every score.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Literal

from emu2eval.errors import MissingExtra, UnknownName
from emu2eval.scorers.base import Scorer, ScoringError, text_of, texts, unreferenced
from emu2eval.types import Response, Sample, Score

# In the official order; apostrophe, colon, % $ # & * and others are not in it and stay.
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_DIGIT_COMMA_DIGIT = re.compile(r"\d,\d")
# The official look-behind is misspelt as a look-ahead, `(?!<=\d)`, which never fails before a period.
# What is left of it: a period goes unless a digit follows.
_PERIOD = re.compile(r"\.(?!\d)")
# VLMEvalKit has mended it: a period that stands beside a digit stays.
_PERIOD_APART = re.compile(r"(?<!\d)\.(?!\d)")
# The official code passes the flag re.UNICODE (= 32) in the place of `count`.
_MOST_PERIODS = 32
_NUMBERS = {
    word: str(number)
    for number, word in enumerate(
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    )
} | {"none": "0"}
_ARTICLES = frozenset({"a", "an", "the"})

# What the official table maps to. Its keys are these words with one apostrophe left out, for each of
# their apostrophes ("couldnt've" and "couldn'tve", but not "couldntve").
_CONTRACTED = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't
he'd he'd've he's how'd how'll how's I'd've I'm I've isn't it'd it'd've it'll ma'am mightn't
mightn't've might've mustn't must've needn't not've o'clock oughtn't 'ow's'at shan't she'd've
should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've
someone'll someone's something'd something'd've something'll that's there'd there'd've there're
there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're
what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's
won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
""".split()
CONTRACTIONS = {
    word[:i] + word[i + 1 :]: word for word in _CONTRACTED for i, c in enumerate(word) if c == "'"
} | {"somebody'd": "somebodyd"}  # reversed in the official table

# The VizWiz API's table is the same one in typographic apostrophes, but for these: so "doesnt" becomes
# "doesn\u2019t", which is not what annotators type.
_TYPED_STRAIGHT = frozenset("ain't aren't can't could've couldn't we've where's who've".split())
_LOOKED_UP_STRAIGHT = frozenset({"couldn'tve", "hadn'tve"})
VIZWIZ_CONTRACTIONS = {
    (short if short in _LOOKED_UP_STRAIGHT else short.replace("'", "\u2019")): (
        word if word in _TYPED_STRAIGHT else word.replace("'", "\u2019")
    )
    for short, word in CONTRACTIONS.items()
}


def plain(text: str) -> str:
    """Newlines and tabs to spaces, ends stripped: what the official scorer always does."""
    return text.replace("\n", " ").replace("\t", " ").strip()


@lru_cache(maxsize=1 << 16)
def strip_punctuation(text: str, period: re.Pattern[str] = _PERIOD) -> str:
    """The official punctuation and period steps. period: those that go.

    >>> strip_punctuation("red, white,blue"), strip_punctuation("t-shirt"), strip_punctuation("1,000.")
    ('red whiteblue', 't shirt', '1000')
    """
    joined = _DIGIT_COMMA_DIGIT.search(text) is not None
    out = text
    for mark in _PUNCTUATION:
        if mark in text:
            glue = joined or mark + " " in text or " " + mark in text
            out = out.replace(mark, "" if glue else " ")
    return period.sub("", out, count=_MOST_PERIODS) if "." in out else out


def fold_words(text: str, contractions: Mapping[str, str] = CONTRACTIONS) -> str:
    """The official word step: lower case, number words to digits, articles dropped, contractions."""
    words = (_NUMBERS.get(word, word) for word in text.lower().split())
    return " ".join(contractions.get(word, word) for word in words if word not in _ARTICLES)


@lru_cache(maxsize=1 << 16)
def normalise(text: str) -> str:
    """Punctuation, then words: the official normalisation of an answer that is `plain` already.

    >>> normalise("The two dogs, dont ask!"), normalise("twenty-one")
    ("2 dogs don't ask", 'twenty 1')
    """
    return fold_words(strip_punctuation(text))


@lru_cache(maxsize=1 << 16)
def _normalise_m4c(text: str) -> str:
    """mmf's EvalAIAnswerProcessor: a tokenisation first, then the official normalisation."""
    tokens = text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
    return normalise(plain(tokens))


@lru_cache(maxsize=1 << 16)
def _normalise_vlmevalkit(text: str) -> str:
    return fold_words(strip_punctuation(text, _PERIOD_APART))


@lru_cache(maxsize=1 << 16)
def _normalise_vizwiz(text: str) -> str:
    return fold_words(strip_punctuation(text), VIZWIZ_CONTRACTIONS)


@cache
def _porter() -> Callable[[str], str]:
    try:
        from nltk.stem.porter import PorterStemmer
    except ImportError:
        raise MissingExtra("nltk", "captions", why="the variant okvqa_porter") from None
    stem: Callable[[str], str] = PorterStemmer().stem
    return stem


@lru_cache(maxsize=1 << 16)
def _stemmed_punctuation(text: str) -> str:
    return _porter()(strip_punctuation(text))


@lru_cache(maxsize=1 << 16)
def _stemmed(text: str) -> str:
    return fold_words(_stemmed_punctuation(text))


def _same(text: str) -> str:
    return text


@dataclass(frozen=True, slots=True)
class Variant:
    """prediction, reference: how each is normalised; when: always, or if the annotators disagree.

    plain_references: newlines, tabs and ends of the references are cleaned too, before all else.
    by_record: with an annotator's answer all records equal to it are left out, an answer with its confidence.
    Where records have ids, as in VQAv2, OK-VQA and TextVQA, none is equal to another, and it says nothing.
    """

    about: str
    prediction: Callable[[str], str]
    reference: Callable[[str], str]
    prediction_when: Literal["always", "disagreement"]
    reference_when: Literal["always", "disagreement"]
    plain_references: bool = True
    by_record: bool = False


# fmt: off
Name = Literal[
    "official", "always", "openflamingo", "vlmevalkit", "m4c", "lavis", "okvqa_porter", "vizwiz",
    "by_record",
]
# fmt: on

VARIANTS: Mapping[Name, Variant] = {
    "official": Variant(
        "GT-Vision-Lab/VQA: nothing is normalised where all annotators agree",
        normalise,
        normalise,
        "disagreement",
        "disagreement",
    ),
    "always": Variant(
        "always normalised: lmms-eval's VQAv2, and OpenFlamingo where records have ids",
        normalise,
        normalise,
        "always",
        "always",
    ),
    "openflamingo": Variant(
        "OpenFlamingo on VizWiz (655f693): as always, with equal records left out together (deflated)",
        normalise,
        normalise,
        "always",
        "always",
        by_record=True,
    ),
    "vlmevalkit": Variant(
        "VLMEvalKit's vqa_score (e8e78f0; until May 2025 as always): a period after a digit stays",
        _normalise_vlmevalkit,
        _normalise_vlmevalkit,
        "always",
        "always",
    ),
    "m4c": Variant(
        "mmf's TextVQA evaluator, also LLaVA's", _normalise_m4c, _normalise_m4c, "always", "always"
    ),
    "lavis": Variant(
        "LAVIS and Emu1: references lose punctuation only",
        normalise,
        strip_punctuation,
        "always",
        "disagreement",
        plain_references=False,
    ),
    "okvqa_porter": Variant(
        "Emu1 on OK-VQA: as lavis, with whole answers stemmed (Porter)",
        _stemmed,
        _stemmed_punctuation,
        "always",
        "disagreement",
        plain_references=False,
    ),
    "vizwiz": Variant(
        "the VizWiz API: references are compared as they are, contractions have typographic apostrophes",
        _normalise_vizwiz,
        _same,
        "always",
        "always",
        plain_references=False,
    ),
    "by_record": Variant(
        "the official code on records without ids: equal records are left out together (deflated)",
        normalise,
        normalise,
        "disagreement",
        "disagreement",
        by_record=True,
    ),
}


CONFIDENCE = "confidence"
"""The set of `Sample.alternatives` that holds how sure each annotator was, where records have no ids."""


def vqa_accuracy(
    prediction: str,
    answers: Sequence[str],
    variant: Name = "official",
    confidences: Sequence[str] | None = None,
) -> float:
    """Accuracy in 0..1: the mean over annotators of min(1, matches among the others / 3).

    confidences: of each answer, for the variants by record; absent, a record is its answer alone.
    Raises UnknownName for a variant that does not exist.

    >>> vqa_accuracy("Two.", ["2", "two", "2", "3", "4", "5", "6", "7", "8", "9"])
    0.9
    >>> vqa_accuracy("Yes", ["yes"] * 10), vqa_accuracy("Yes", ["yes"] * 10, "always")
    (0.0, 1.0)
    """
    return compare(prediction, answers, variant, confidences)[0]


def compare(
    prediction: str,
    answers: Sequence[str],
    variant: Name,
    confidences: Sequence[str] | None = None,
) -> tuple[float, str]:
    """(accuracy, the prediction as it was compared)."""
    if variant not in VARIANTS:
        raise UnknownName("variant", variant, VARIANTS, of="vqa_accuracy")
    rule = VARIANTS[variant]
    guess = plain(prediction)
    given = [plain(answer) for answer in answers] if rule.plain_references else list(answers)
    disagreed = any(answer != given[0] for answer in given)
    if disagreed or rule.prediction_when == "always":
        guess = rule.prediction(guess)
    if disagreed or rule.reference_when == "always":
        given = [rule.reference(answer) for answer in given]
    matches = given.count(guess)
    records: list[object] = list(zip(given, confidences or given, strict=True))
    credits: list[float] = []
    for answer, record in zip(given, records, strict=True):
        left_out = records.count(record) if rule.by_record else 1
        others = matches - left_out if answer == guess else matches
        credits.append(min(1, others / 3))
    # The official code adds up in this order; another order could differ in the last bit.
    return (float(sum(credits)) / len(credits) if credits else 0.0), guess


class VQAAccuracy(Scorer):
    """VQA accuracy against ten annotators; `variant` as in VARIANTS, official unless the task sets
    another.

    against: another set of references than the task's own, such as OK-VQA's "raw".
    A variant by record needs the annotators' confidences, which the reader of VizWiz's own files gives.
    variant: the rule: official, or as another project has it.
    """

    metric = "vqa_accuracy"

    def __init__(self, variant: Name = "official", against: str | None = None):
        self.rule: Name = variant
        self.against = against

    @property
    def variant(self) -> str:
        return self.rule if self.against is None else f"{self.rule}/{self.against}"

    def score(self, sample: Sample, response: Response) -> Score:
        answers = texts(sample.references, sample.id)
        if self.against is not None:
            if answers and self.against not in sample.alternatives:
                raise UnknownName(
                    "set of references",
                    self.against,
                    sample.alternatives,
                    of=f"sample {sample.id!r}",
                )
            answers = sample.alternatives.get(self.against, ())
        if not answers:
            return unreferenced()
        confidences = sample.alternatives.get(CONFIDENCE)
        if VARIANTS[self.rule].by_record and confidences is None:
            raise ScoringError(
                f"the variant {self.rule!r} needs the annotators' confidences, which sample {sample.id!r} "
                "does not have",
                hint="if records have ids, `always` (or `official`) gives the same number; for VizWiz, only "
                "the official files have confidences",
            )
        value, compared = compare(text_of(response), answers, self.rule, confidences)
        return Score(value, compared)
