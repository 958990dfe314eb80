"""VQA accuracy against the official scorers' own results, and against a plain reading of the rules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu2eval.errors import ConfigError
from emu2eval.registry import build
from emu2eval.scorers import vqa
from emu2eval.scorers.base import ScoringError
from emu2eval.scorers.vqa import CONTRACTIONS, VARIANTS, VQAAccuracy, vqa_accuracy
from emu2eval.types import Response, Sample

CASES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "vectors" / "vqa_accuracy.json").read_text(encoding="utf-8")
)["cases"]

RULES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "vectors" / "vqa_rules.json").read_text(encoding="utf-8")
)["cases"]

COLUMNS = {
    "official": "accuracy",
    "always": "accuracy_always_normalise",
    "by_record": "accuracy_no_answer_id",
    "m4c": "accuracy_textvqa_m4c",
    "lavis": "accuracy_emu1_lavis",
    "okvqa_porter": "accuracy_emu1_okvqa_porter",
    "vizwiz": "accuracy_vizwiz_api",
}


def test_every_variant_has_its_vectors() -> None:
    assert {*COLUMNS, *RULES[0]} >= VARIANTS.keys()
    assert len(CASES) == 105


@pytest.mark.parametrize("variant", COLUMNS)
def test_equals_the_official_results(variant: str) -> None:
    """The vectors hold ten decimals; everything that they can tell apart must be equal."""
    wrong = [
        (case["id"], case["category"])
        for case in CASES
        if round(vqa_accuracy(case["prediction"], case["answers"], variant), 10)
        != round(case[COLUMNS[variant]], 10)
    ]
    assert wrong == []


@pytest.mark.parametrize("variant", ["openflamingo", "vlmevalkit", "vizwiz"])
def test_equals_the_projects_own_code(variant: str) -> None:
    """Records with their annotators' confidences, and what each project's code made of them."""
    wrong = [
        case
        for case in RULES
        if vqa_accuracy(case["prediction"], case["answers"], variant, case["confidences"])
        != case[variant]
    ]
    assert wrong == []


def test_a_rule_of_records_needs_them() -> None:
    answers = ("unanswerable",) * 8 + ("blank",) * 2
    sure = tuple("yes yes yes maybe maybe no yes yes yes yes".split())
    sample = Sample("1", references=answers, alternatives={"confidence": sure})
    reply = Response(text="unanswerable")
    assert VQAAccuracy("openflamingo").score(sample, reply).value == 1.0
    with pytest.raises(ScoringError, match="annotators' confidences"):
        VQAAccuracy("openflamingo").score(Sample("1", references=answers), reply)


def test_equals_the_official_rounding_and_normalisation() -> None:
    for case in CASES:
        value, compared = vqa.compare(case["prediction"], case["answers"], "official")
        assert round(100 * value, 2) == case["evalQA_rounded_percent"], case["id"]
        assert compared == case["prediction_as_compared"], case["id"]
        assert vqa.normalise(vqa.plain(case["prediction"])) == case["prediction_normalised"]


def test_the_contraction_table() -> None:
    assert CONTRACTIONS["couldnt've"] == CONTRACTIONS["couldn'tve"] == "couldn't've"
    assert CONTRACTIONS["'ow'sat"] == "'ow's'at"
    assert CONTRACTIONS["somebody'd"] == "somebodyd"  # reversed in the official table
    for absent in ("its", "lets", "ill", "couldntve"):
        assert absent not in CONTRACTIONS
    assert (
        len(CONTRACTIONS) == 118
    )  # and let's and she's, which the official table maps to themselves


def _plainly(prediction: str, answers: list[str]) -> float:
    """The rule as the paper states it, for answers that need no clean-up: leave one out by index."""
    credits = []
    for left_out in range(len(answers)):
        others = answers[:left_out] + answers[left_out + 1 :]
        credits.append(min(1, others.count(prediction) / 3))
    return sum(credits) / len(credits)


WORD = st.sampled_from(["red", "blue", "cat", "dog house", "42", "left"])


@given(WORD, st.lists(WORD, min_size=1, max_size=12))
def test_is_the_published_rule_on_clean_answers(prediction: str, answers: list[str]) -> None:
    for variant in ("official", "always", "vizwiz", "lavis"):
        assert vqa_accuracy(prediction, answers, variant) == _plainly(prediction, answers)


@given(st.text(max_size=40), st.lists(st.text(max_size=20), min_size=10, max_size=10), st.randoms())
def test_order_of_annotators_does_not_matter(
    prediction: str, answers: list[str], random: Any
) -> None:
    shuffled = list(answers)
    random.shuffle(shuffled)
    for variant in VARIANTS:
        one, other = (vqa_accuracy(prediction, a, variant) for a in (answers, shuffled))
        assert one == pytest.approx(other, abs=1e-12)
        assert 0 <= one <= 1


@given(st.text(max_size=60))
def test_normalising_never_fails_and_leaves_no_articles(text: str) -> None:
    words = vqa.normalise(vqa.plain(text)).split(" ")
    assert not {"a", "an", "the"} & set(words)
    assert all("," not in word and ";" not in word for word in words)


@given(st.integers(0, 10))
def test_credit_by_number_of_matches(matches: int) -> None:
    answers = ["red"] * matches + [f"x{i}" for i in range(10 - matches)]
    expected = {0: 0.0, 1: 0.3, 2: 0.6, 3: 0.9}.get(matches, 1.0)
    assert vqa_accuracy("red", answers) == pytest.approx(expected)


def test_the_scorer_says_which_variant_it_used() -> None:
    sample = Sample("1", references=("yes",) * 10)
    for variant in VARIANTS:
        scorer = VQAAccuracy(variant)
        assert scorer.label == f"vqa_accuracy/{variant}"
    assert VQAAccuracy().score(sample, Response(text="Yes")).value == 0.0
    assert VQAAccuracy("always").score(sample, Response(text="Yes")).value == 1.0


def test_without_references_it_is_unscored_not_zero() -> None:
    assert VQAAccuracy().score(Sample("1"), Response(text="yes")).value is None


def test_unknown_variant() -> None:
    with pytest.raises(ConfigError, match="did you mean 'official'"):
        build("scorer", "vqa_accuracy", {"variant": "oficial"})
