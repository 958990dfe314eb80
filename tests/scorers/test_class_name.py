"""Which class a reply names: one, as whole words, the longest name first."""

from __future__ import annotations

import pytest

from emu2eval.scorers.base import ScoringError
from emu2eval.scorers.class_name import ClassName, named_class
from emu2eval.types import Response, Sample

CLASSES = ("A", "B", "bear", "polar bear", "Golden_Retriever", "straße", "東京", "+", "-")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("bear", "bear"),
        (" Polar  bear!\n", "polar bear"),
        ("this is a golden retriever", None),  # the article is the class A, too
        ("golden-retriever", "Golden_Retriever"),
        ("b", "B"),
        ("the STRASSE", "straße"),
        ("東京", "東京"),
        ("+", "+"),
        ("-", "-"),
        ("", None),
        ("!", None),
        ("bear or polar bear", None),
        ("unbearable", None),
        ("polar bear, polar bear", "polar bear"),
    ],
)
def test_a_reply_names_one_class(text: str, named: str | None) -> None:
    assert named_class(text, CLASSES) == named


def test_scores() -> None:
    sample = Sample("1", references=("bear",), choices=("bear", "cow"))
    score = ClassName().score(sample, Response("I see a bear."))
    assert (score.value, score.prediction) == (1, "bear")
    assert ClassName(whole=True).score(sample, Response("I see a bear.")).details == {
        "unread": True
    }
    assert ClassName().score(sample, Response("cow")).value == 0
    assert ClassName().score(Sample("1", choices=("bear",)), Response("bear")).value is None
    with pytest.raises(ScoringError, match="has no choices"):
        ClassName().score(Sample("1", references=("bear",)), Response("bear"))
