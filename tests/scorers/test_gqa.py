"""GQA: equality as in the official script, the balanced questions, consistency."""

from __future__ import annotations

import random
from statistics import mean

import pytest

from emu2eval.scorers.gqa import GQA
from emu2eval.types import Response, Sample, Score


def question(number: str, answer: str, entailed: str = "", balanced: bool = True) -> Sample:
    fields = {"question": "?", "entailed": entailed} | ({} if balanced else {"balanced": "no"})
    return Sample(number, fields, references=(answer,), cluster=number[0])


@pytest.mark.parametrize(
    ("reply", "value"),
    [("red", 1), ("Red", 0), ("red.", 0), (" red", 0), ("a red", 0), ("two", 0), ("2", 0)],
)
def test_equality_is_letter_for_letter(reply: str, value: float) -> None:
    assert GQA().score(question("1", "red"), Response(text=reply)).value == value


def test_a_question_outside_the_balanced_set_is_unscored() -> None:
    score = GQA().score(question("1", "red", balanced=False), Response(text="red"))
    assert score.value is None
    assert score.why == "not a balanced question"


def totals(pairs: list[tuple[Sample, str]]) -> list[tuple[float | None, float | None]]:
    scorer = GQA(consistency=True)
    summaries = scorer.summaries()
    for sample, reply in pairs:
        for summary in summaries:
            summary.accumulator.add(sample, scorer.score(sample, Response(text=reply)))
    return [summary.accumulator.result() for summary in summaries]


def test_consistency_is_the_official_one() -> None:
    chance = random.Random(0)
    ids = [f"{image}{n}" for image in "abcdefgh" for n in range(6)]
    balanced = {i: chance.random() < 0.5 for i in ids}
    entailed = {i: [j for j in ids if j[0] == i[0] and chance.random() < 0.5] for i in ids}
    replies = {i: chance.choice(["red", "blue"]) for i in ids}
    # As the official script words it: over balanced questions answered right that entail others.
    wanted = []
    for i in ids:
        others = [j for j in entailed[i] if j != i]
        if balanced[i] and replies[i] == "red" and others:
            wanted.append(mean(float(replies[j] == "red") for j in others))
    pairs = [(question(i, "red", " ".join(entailed[i]), balanced[i]), replies[i]) for i in ids]
    (accuracy, _), (consistency, error) = totals(pairs)
    assert consistency == pytest.approx(100 * mean(wanted))
    assert error is not None and error > 0
    assert accuracy == pytest.approx(
        100 * mean(float(replies[i] == "red") for i in ids if balanced[i])
    )


def test_consistency_is_empty_where_an_entailed_question_is_missing() -> None:
    pairs = [(question("a", "red", "a b"), "red")]
    assert totals(pairs)[1] == (None, None)
    assert totals([*pairs, (question("b", "red"), "blue")])[1][0] == 0


def test_a_hidden_answer_is_called_hidden() -> None:
    assert GQA().score(Sample("1"), Response(text="red")) == Score(
        None, why="no references", hidden=True
    )
