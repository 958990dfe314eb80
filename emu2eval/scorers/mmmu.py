"""MMMU (Yue et al., 2024): how its evaluation code reads letters and open answers.

Source: github.com/MMMU-Benchmark/MMMU, eval_utils.py. What it cannot read it guesses, by one seeded
stream that depends on the order of the questions; here every question has its own seeded guess.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import replace

from emu2eval.scorers.base import Scorer, Summary, text_of, texts, unreferenced
from emu2eval.scorers.letters import letters
from emu2eval.statistics.estimates import ClusteredMean
from emu2eval.types import Response, Sample, Score

SEED = 42
_ENDS = (",", ".", "!", "?", ";", ":", "'")
_KEYS = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
_NUMBERS = (
    re.compile(r"-?\b\d{1,3}(?:,\d{3})+\b"),
    re.compile(r"-?\d+(?:\.\d+)?[eE][+-]?\d+"),
    re.compile(r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])"),
)

Value = str | float


def read_letter(reply: str, options: Sequence[str]) -> str | None:
    """The letter that the reply names last, or None where the official code would guess.

    Looked for in this order: "(B)", " B ", and in replies of more than five words an option's content.

    >>> [read_letter(t, ("cat", "dog")) for t in ("B.", "(A) is wrong, so (B)", "It is B.", "dog", "b")]
    ['B', 'B', 'B', None, None]
    >>> read_letter("what I see there is a dog", ("cat", "dog"))
    'B'
    """
    for mark in _ENDS:  # one after the other, each once: "B.," keeps its period
        reply = reply.strip(mark)
    reply = f" {reply} "
    named = letters(tuple(options))
    for form in ("({})", " {} "):
        places = {letter: reply.rfind(form.format(letter)) for letter in named}
        if max(places.values(), default=-1) >= 0:
            return max(named, key=lambda letter: places[letter])
    if len(reply.split()) > 5:
        said = reply.lower()
        places = {
            letter: said.rfind(option.lower())
            for letter, option in zip(named, options, strict=True)
        }
        if max(places.values(), default=-1) >= 0:
            return max(named, key=lambda letter: places[letter])
    return None


def guess(sample_id: str, options: Sequence[str]) -> str:
    """A letter at random, the same for a question whatever else is asked."""
    return random.Random(f"{SEED} {sample_id}").choice(letters(tuple(options)))


def read_open(reply: str) -> list[Value]:
    """The texts and numbers in which the answer is looked for.

    Of each line, what follows the last of the words that announce a result, where that is shortest
    (in the last line an equals sign announces too); nothing announced: the whole reply. Then every
    number in these. Numbers are rounded to two decimals.

    >>> sorted(read_open("Adding up.\\nSo the total is 1,234.5"), key=str)
    [1234.0, 1234.5, 234.5]
    """
    reply = reply.strip().strip(".").lower()
    lines = reply.split(
        "\n"
    )  # the official split at ". " and a capital never happens: all is lower case
    found = []
    for number, line in enumerate(lines):
        keys = (*_KEYS, "=") if number == len(lines) - 1 else _KEYS
        tails = [line.split(key)[-1].strip() for key in keys if key in line]
        shortest = ""
        for tail in tails:
            # An empty one counts as none, so that the next one takes its place.
            if not shortest or len(tail) < len(shortest):
                shortest = tail
        if shortest and shortest not in _ENDS:
            found.append(shortest)
    found = found or [reply]
    numbers = [n for text in found for pattern in _NUMBERS for n in pattern.findall(text)]
    return [value for text in (*found, *numbers) for value in normalise(text)]


def normalise(text: str) -> list[Value]:
    """A number rounded to two decimals, or the text in lower case; one letter must stand beside a space.

    >>> normalise("1,000.456"), normalise(" Mitosis "), normalise("B")
    ([1000.46], ['mitosis'], [' b', 'b '])
    """
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        text = text.lower()
        return [f" {text}", f"{text} "] if len(text) == 1 else [text]


def open_is_right(reply: str, answers: Sequence[str]) -> bool:
    """An answer in words stands within one of the reply's texts, or a number equals one of its numbers."""
    wanted = [value for answer in answers for value in normalise(answer)]
    for said in read_open(reply):
        if isinstance(said, str):
            if any(isinstance(value, str) and value in said for value in wanted):
                return True
        elif said in wanted:
            return True
    return False


class MMMUAccuracy(Scorer):
    """Accuracy as MMMU's code counts it; a sample without choices is an open question.

    A second number says how many of all answers were guessed because no letter could be read.
    """

    metric = "accuracy"

    @property
    def variant(self) -> str:
        return "mmmu"

    def score(self, sample: Sample, response: Response) -> Score:
        references = texts(sample.references, sample.id)
        reply = text_of(response)
        if not sample.choices:
            if not references:
                return replace(unreferenced(), prediction=reply)
            return Score(float(open_is_right(reply, references)), reply, {"guessed": 0})
        read = read_letter(reply, sample.choices)
        letter = read if read is not None else guess(sample.id, sample.choices)
        details = {"guessed": int(read is None)}
        if not references:
            return replace(unreferenced(details), prediction=letter)
        return Score(float(letter in references), letter, details)

    def summaries(self) -> tuple[Summary, ...]:
        return (
            Summary(self.metric, ClusteredMean(self.scale), self.variant),
            Summary(
                "guessed",
                ClusteredMean(self.scale, of="guessed"),
                self.variant,
                higher_is_better=False,
            ),
        )
