"""POPE: what counts as yes, and the five numbers against sums done by hand."""

from __future__ import annotations

import pytest

from emu2eval.errors import ConfigError
from emu2eval.registry import build
from emu2eval.scorers.base import ScoringError
from emu2eval.scorers.yes_no import RULES, YesNo
from emu2eval.types import Response, Sample


@pytest.mark.parametrize(
    ("reply", "official", "strict"),
    [
        ("yes", "yes", "yes"),
        ("No, there is no dog.", "no", None),
        ("There is not.", "no", None),
        ("NO", "yes", "no"),  # only No, not and no are a no
        ("Nope", "yes", None),
        ("I do not know. Yes.", "no", None),  # the first sentence decides
        ("Yes. There is no doubt.", "yes", None),
        ("no, no", "no", None),
        (" No ", "no", "no"),
        ("", "yes", None),  # saying nothing is a yes
        ("nothing", "yes", None),
        ("isn't", "yes", None),
    ],
)
def test_popes_default_is_yes(reply: str, official: str, strict: str | None) -> None:
    assert RULES["official"].read(reply) == official
    read = RULES["lmms_eval"].read(reply)
    assert (read if read in ("yes", "no") else None) == strict


def numbers(
    rows: list[tuple[str, str, str]], rule: str = "official"
) -> dict[str, tuple[float | None, float | None]]:
    """The numbers for (category, label, reply)s, each on an image of its own."""
    scorer = YesNo(rule)
    summaries = scorer.summaries()
    for number, (category, label, reply) in enumerate(rows):
        sample = Sample(str(number), references=(label,), groups={"category": category})
        score = scorer.score(sample, Response(text=reply))
        for summary in summaries:
            summary.accumulator.add(sample, score)
    return {s.metric.partition("/")[0]: s.accumulator.result() for s in summaries}


RANDOM = [("random", "yes", "yes")] * 3 + [("random", "yes", "no"), ("random", "no", "yes")]
RANDOM += [("random", "no", "no")] * 3
POPULAR = [("popular", "yes", "yes"), ("popular", "no", "yes")]


def test_the_numbers_of_one_file() -> None:
    found = {name: value for name, (value, _) in numbers(RANDOM).items()}
    assert list(found) == ["f1", "accuracy", "precision", "recall", "yes_ratio"]
    assert found == {
        "f1": 75.0,
        "accuracy": 75.0,
        "precision": 75.0,
        "recall": 75.0,
        "yes_ratio": 50.0,
    }


def test_over_files_each_number_is_the_mean_of_theirs() -> None:
    found = {name: value for name, (value, _) in numbers(RANDOM + POPULAR).items()}
    assert found["f1"] == pytest.approx((75 + 200 / 3) / 2)  # and not 2 * 4 / (2 * 4 + 2 + 1)
    assert found["precision"] == pytest.approx((75 + 50) / 2)
    assert found["yes_ratio"] == pytest.approx((50 + 100) / 2)


def test_without_a_yes_there_is_no_precision_and_f1_is_zero() -> None:
    found = numbers([("random", "yes", "no"), ("random", "no", "no")])
    assert found["precision"] == (None, None)
    assert found["f1"][0] == found["recall"][0] == found["yes_ratio"][0] == 0


def test_the_stricter_rule_takes_other_words_for_neither() -> None:
    rows = [("random", "yes", "Yes"), ("random", "yes", "Yes, it is"), ("random", "no", "no")]
    assert numbers(rows)["accuracy"][0] == 100
    found = numbers(rows, "lmms_eval")
    assert found["accuracy"][0] == pytest.approx(200 / 3)
    assert found["recall"][0] == 100  # so lmms-eval counts: it was no "no" either
    assert YesNo("lmms_eval").label == "f1/lmms_eval"


def test_lmms_evals_numbers_pool_the_files_and_its_yes_ratio_is_of_the_labels() -> None:
    """By its pope_aggregate functions at 75571cf, over the same replies."""
    found = {name: value for name, (value, _) in numbers(RANDOM + POPULAR, "lmms_eval").items()}
    assert found == pytest.approx(
        {
            "f1": 100 * 8 / 11,
            "accuracy": 70.0,
            "precision": 100 * 4 / 6,
            "recall": 80.0,
            "yes_ratio": 50.0,  # said yes: 6 of 10
        }
    )


def test_errors_of_a_mean_are_those_of_the_ordinary_mean() -> None:
    value, error = numbers(RANDOM)["accuracy"]
    assert value == 75
    assert error == pytest.approx(100 * (6 * 0.25**2 + 2 * 0.75**2) ** 0.5 / 7**0.5 / 8**0.5)


def test_what_is_no_label_is_refused() -> None:
    with pytest.raises(ScoringError, match="not yes or no"):
        YesNo().score(Sample("1", references=("maybe",)), Response(text="yes"))
    with pytest.raises(ConfigError, match="expected 'lmms_eval' or 'official'"):
        build("scorer", "yes_no", {"rule": "exact"})
