"""MMMU's reading of replies, case by case, and its guesses."""

from __future__ import annotations

from collections import Counter

import pytest

from emu2eval.scorers.mmmu import MMMUAccuracy, guess, open_is_right, read_letter, read_open
from emu2eval.types import Response, Sample

OPTIONS = ("cat", "dog", "red cow", "<image 2>")


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("B", "B"),
        ("B.", "B"),
        (",.B", "B"),
        (".,B", None),  # each mark is taken off once, in the order , . ! ? ; : '
        ("(B)", "B"),
        ("the answer (B), not (A)", "A"),  # of several the last one
        ("A or (B)", "B"),  # brackets come before bare letters
        ("A or B ?", "B"),
        ("B: dog", None),  # no space behind the letter, and no more than five words
        ("b", None),
        ("dog", None),  # contents are looked for in longer replies only
        ("it is clear that I see a Dog", "B"),
        ("one cat, one dog and one more cat", "A"),  # the content that stands last
        ("A dog is what this image shows", "A"),  # the article is taken for the letter
        ("B\n", None),  # an unstripped newline hides it: the task strips first
        ("", None),
    ],
)
def test_the_parsing_table(reply: str, letter: str | None) -> None:
    assert read_letter(reply, OPTIONS) == letter


def test_a_guess_depends_on_the_question_alone() -> None:
    names = [f"validation_Art_{n}" for n in range(400)]
    guesses = [guess(name, OPTIONS) for name in names]
    assert guesses == [guess(name, OPTIONS) for name in reversed(names)][::-1]
    assert guesses[:4] == ["A", "C", "C", "C"]  # once published they never change
    assert all(70 < count < 130 for count in Counter(guesses).values())


def test_how_often_it_guessed_is_a_number_of_the_table() -> None:
    scorer = MMMUAccuracy()
    summaries = scorer.summaries()
    for number, reply in enumerate(("A", "A", "no idea", "B")):
        sample = Sample(f"q{number}", references=("A",), choices=OPTIONS)
        score = scorer.score(sample, Response(text=reply))
        assert score.details == {"guessed": int(reply == "no idea")}
        for summary in summaries:
            summary.accumulator.add(sample, score)
    guessed = summaries[1]
    assert (guessed.label, guessed.higher_is_better) == ("guessed/mmmu", False)
    assert guessed.accumulator.result()[0] == 25.0


def test_a_hidden_answer_still_gives_the_letter_for_the_server() -> None:
    score = MMMUAccuracy().score(Sample("q0", choices=OPTIONS), Response(text="none"))
    assert (score.value, score.prediction) == (None, guess("q0", OPTIONS))


@pytest.mark.parametrize(
    ("reply", "answers", "right"),
    [
        ("1.064", ["1.06"], True),  # two decimals on both sides
        ("The total is 1,234.50", ["1234.5"], True),
        ("The total is $1,234.50", ["1234.5"], False),  # read as 1,234 and as 234.50
        ("so x = 7", ["7"], True),
        ("x = 7\nthus it is 8", ["7"], False),  # an equals sign announces in the last line only
        ("7\n8", ["8"], True),  # nothing announced: every number of the whole reply
        ("It is called Mitosis.", ["mitosis"], True),
        ("mitosis and meiosis", ["osis"], True),  # an answer in words may be a part of one
        ("abc", ["b"], False),  # one letter must stand beside a space
        ("a b", ["b"], True),
        ("The 15 of them", ["5"], False),  # a number is no part of another
        ("it is ten", ["10"], False),
        ("nine", ["9", "nine"], True),
        ("1e3", ["1000"], True),
    ],
)
def test_open_answers(reply: str, answers: list[str], right: bool) -> None:
    assert open_is_right(reply, answers) is right
    sample = Sample("q", references=tuple(answers))
    assert MMMUAccuracy().score(sample, Response(text=reply)).value == float(right)


def test_of_what_is_announced_the_shortest_tail_counts() -> None:
    assert read_open("the answer is clear so it is 5") == [5.0, 5.0]
