"""Exact match, ranked choices and clean-up."""

from __future__ import annotations

import doctest
import importlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu2eval.scorers import clean
from emu2eval.scorers.base import ScoringError
from emu2eval.scorers.choice import ChoiceAccuracy
from emu2eval.scorers.cobsat import CoBSAT
from emu2eval.scorers.exact import ExactMatch
from emu2eval.scorers.mm_vet import MMVet
from emu2eval.types import Response, Sample


@pytest.mark.parametrize(
    "module",
    [
        "scorers.clean",
        "scorers.vqa",
        "statistics.estimates",
        "cli",
        "scorers.exact",
        "scorers.choice",
        "scorers.shown",
        "scorers.cobsat",
        "scorers.dreambench_plus",
        "scorers.mm_vet",
        "scorers.touchstone",
    ],
)
def test_examples_in_docstrings(module: str) -> None:
    result = doctest.testmod(importlib.import_module(f"emu2eval.{module}"))
    assert result.failed == 0


def test_exact_match_is_exact() -> None:
    sample = Sample("1", references=("red", "dark red"))
    assert ExactMatch().score(sample, Response(text="dark red")).value == 1
    assert ExactMatch().score(sample, Response(text="Red")).value == 0
    assert ExactMatch(normalise=True).score(sample, Response(text="The Red!")).value == 1


def test_ties_of_choices_share_the_credit() -> None:
    sample = Sample("1", references=("b",), choices=("a", "b", "c"))
    assert ChoiceAccuracy().score(sample, Response(log_probs=(-1.0, -0.5, -2.0))).value == 1
    assert ChoiceAccuracy().score(sample, Response(log_probs=(-0.5, -0.5, -2.0))).value == 0.5
    assert ChoiceAccuracy().score(sample, Response(log_probs=(-0.1, -0.5, -2.0))).value == 0


def test_scorers_refuse_the_wrong_kind_of_response() -> None:
    sample = Sample("1", references=("b",), choices=("a", "b"))
    with pytest.raises(ScoringError):
        ExactMatch().score(sample, Response(log_probs=(-1.0, -2.0)))
    with pytest.raises(ScoringError):
        ChoiceAccuracy().score(sample, Response(text="b"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Red.\nQuestion: what", "red"),
        ("it is a cat", "cat"),  # "it is ", then "a ": each once, in this order
        ("a it is cat", "it is cat"),  # "it is " is looked for first, and not again
        ('the "big" dog', "the"),  # cut at the quote; "the" without its space is no leading word
        ("two, three", "two"),
        ("", ""),
    ],
)
def test_emu1_short_answer(text: str, expected: str) -> None:
    assert clean.short_answer(text) == expected


@given(st.text())
def test_clean_up_never_fails(text: str) -> None:
    for step in (
        clean.first_line,
        clean.strip,
        clean.lower,
        clean.no_final_period,
        clean.short_answer,
    ):
        assert isinstance(step(text), str)


def test_what_officially_is_wrong_is_a_named_choice() -> None:
    """CoBSAT at a787be5 and MM-Vet at acde843 take a reply that cannot be read for a wrong answer."""
    asked = Sample(
        "1", {"latent_is": "object", "objects": "cup car", "attributes": "red blue"},
        references=("cup", "red"),
    )  # fmt: skip
    strict, official = CoBSAT(), CoBSAT(unreadable="wrong")
    said = {"object": 1, "attribute": None}
    assert strict.judged(asked, Response(text="a cup"), said).value is None
    score = official.judged(asked, Response(text="a cup"), said)
    assert (score.value, score.details["judged_latent"], score.prediction) == (0, 1, "nothing cup")
    assert official.label == "judged_right/own+unreadable-is-wrong"
    graded = {"round 1": 1.0, "round 2": None}
    answered = Sample("1", references=("red",)), Response(text="red"), graded
    assert MMVet(rounds=2).judged(*answered).value is None
    assert MMVet(rounds=2, unreadable="wrong").judged(*answered).value == 0.5
