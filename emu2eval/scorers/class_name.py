"""Classification answered in words: which class does the reply name?"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

from emu2eval.scorers.base import Scorer, ScoringError, text_of, texts, unreferenced
from emu2eval.types import Response, Sample, Score


class ClassName(Scorer):
    """1 if the reply names the right class and no other.

    Case, accents' encoding, underscores and punctuation aside, the reply is a class's name as a whole, else
    the one class whose name stands in it as whole words; a name inside a longer one that stands there, as
    `bear` in `polar bear`, is not counted. A reply that names no class or several is wrong and marked
    `unread`.
    whole: the whole reply has to be the name.
    """

    metric = "accuracy"

    def __init__(self, whole: bool = False):
        self.whole = whole

    @property
    def variant(self) -> str | None:
        return "whole_reply" if self.whole else "named_class"

    def score(self, sample: Sample, response: Response) -> Score:
        references = texts(sample.references, sample.id)
        if not sample.choices:
            raise ScoringError(f"sample {sample.id!r} has no choices (class names)")
        read = named_class(text_of(response), sample.choices, whole=self.whole)
        if not references:
            return unreferenced()
        details: dict[str, object] = {} if read is not None else {"unread": True}
        return Score(float(read in references), read, details)


def named_class(text: str, classes: Sequence[str], *, whole: bool = False) -> str | None:
    """The one class that a text names, None where it names none or several.

    >>> animals = ("bear", "polar bear", "sea_lion")
    >>> said = ("Polar bear.", "It is a sea lion", "A polar bear, not a bear", "bears")
    >>> [named_class(text, animals) for text in said]
    ['polar bear', 'sea_lion', None, None]
    """
    said = _words(text)
    by_words = {_words(name): name for name in classes}
    if said in by_words:
        return by_words[said]
    if whole:
        return None
    found = {by_words[name] for name in _inside(said, sorted(by_words, key=len, reverse=True))}
    return found.pop() if len(found) == 1 else None


def _inside(said: str, names: Sequence[str]) -> Iterator[str]:
    """The names that stand in the text as whole words, the longest first; each word counts for one."""
    left = f" {said} "
    for name in names:
        if name and f" {name} " in left:
            yield name
            while f" {name} " in left:
                left = left.replace(f" {name} ", " \0 ")


_BETWEEN = re.compile(r"[\W_]+")


def _words(text: str) -> str:
    """Lower case, one space between words; of what is no letter or digit at all, itself.

    >>> _words("  A_Sea-Lion. "), _words("+")
    ('a sea lion', '+')
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    return _BETWEEN.sub(" ", plain).strip() or plain.strip()
