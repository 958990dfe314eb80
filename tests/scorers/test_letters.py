"""Letters read out of replies: what each benchmark's own code makes of the same words."""

from __future__ import annotations

import doctest
import importlib

import pytest

from emu2eval.errors import ConfigError
from emu2eval.registry import build
from emu2eval.scorers.base import ScoringError
from emu2eval.scorers.choice import ChoiceAccuracy
from emu2eval.scorers.letters import RULES, LetterAccuracy
from emu2eval.types import Response, Sample

OPTIONS = ("a cat", "a dog", "a cow", "a hen")


@pytest.mark.parametrize("module", ["letters", "mmmu", "yes_no"])
def test_examples_in_docstrings(module: str) -> None:
    found = doctest.testmod(importlib.import_module(f"emu2eval.scorers.{module}"))
    assert found.attempted
    assert found.failed == 0


def sample(reference: str | None = "B", **more: object) -> Sample:
    given = (reference,) if reference else ()
    return Sample("1", references=given, choices=OPTIONS, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("reply", "read"),
    [
        #              exact  first  scienceqa, VLMEvalKit in 2024, 2025-08 and 2026-06
        ("B", ("B", "B", "B", "B", "B", "B")),
        ("B.", (None, "B", None, "B", "B", "B")),
        ("B. a dog", (None, "B", "B", "B", "B", "B")),
        ("(B)", (None, None, None, "B", "B", "B")),
        ("b", (None, "B", None, None, None, None)),
        ("a dog", (None, "A", None, "B", "B", "B")),
        ("Because so. The answer is B.", (None, "B", "B", "B", "B", "B")),
        ("The answer is B", (None, None, None, "B", "B", "B")),  # LLaVA wants one character more
        ("The answer is B. The answer is C.", (None, None, None, None, None, "B")),
        ("E", (None, None, None, None, None, None)),  # there are four options
        ("", (None, None, None, None, None, None)),
    ],
)
def test_the_rules_differ_as_their_codes_do(reply: str, read: tuple[str | None, ...]) -> None:
    assert tuple(rule.read(reply, OPTIONS) for rule in RULES.values()) == read


@pytest.mark.parametrize(
    ("reply", "read"),
    [
        ("A man is standing next to a blue bus in the street", ("A", "B", "B")),
        ("Cannot determine the answer from a red car", (None, None, None)),
        ("B because the vehicle in the picture is long and blue", ("B", None, None)),
        ("The answer is **c**, I think, since it is green", (None, None, "C")),
        ("The correct answer is B, and not A", (None, None, "B")),
        ("Z", (None, None, None)),
        ("I can't process this file. B", (None, None, None)),
        ("Failed to obtain answer via API: B, a red car", ("A", "A", "A")),
        ("a red car and a blue bus", (None, None, None)),
        ("It must be B, as far as I can see it", ("B", None, None)),
    ],
)
def test_each_version_of_vlmevalkit_reads_as_its_own_code(
    reply: str, read: tuple[str | None, ...]
) -> None:
    """By running can_infer at c6bdffd, c337155 and 2cf2a36."""
    options = ("a red car", "a blue bus", "a green bike", "none of these")
    versions = [rule for name, rule in RULES.items() if name.startswith("vlmevalkit")]
    assert tuple(rule.read(reply, options) for rule in versions) == read


def test_what_llava_calls_failed_is_wrong_and_not_unscored() -> None:
    score = LetterAccuracy("scienceqa").score(sample(), Response(text="I see a dog"))
    assert (score.value, score.prediction, score.details) == (0.0, None, {"unread": True})


def test_a_hidden_answer_leaves_the_letter_but_no_score() -> None:
    score = LetterAccuracy("vlmevalkit-2026-06").score(sample(None), Response(text="(C)"))
    assert (score.value, score.prediction) == (None, "C")


def test_the_rule_stands_in_the_label() -> None:
    assert LetterAccuracy("first_letter").label == "accuracy/first_letter"
    assert LetterAccuracy("vlmevalkit-2026-06", circular=True).label == (
        "circular_accuracy/vlmevalkit-2026-06"
    )
    with pytest.raises(ConfigError, match="did you mean 'exact'"):
        build("scorer", "letter", {"rule": "exactly"})


def test_a_sample_without_options_is_refused() -> None:
    with pytest.raises(ScoringError, match="no options"):
        LetterAccuracy().score(Sample("1", references=("A",)), Response(text="A"))


def circular(replies: dict[tuple[str, int], str], rotations: int = 2) -> list[float | None]:
    """The numbers of a circular run; replies by (question, rotation), the right one always A."""
    scorer = LetterAccuracy(circular=True)
    summaries = scorer.summaries()
    for (question, rotation), reply in replies.items():
        fields = {"rotation": str(rotation), "rotations": str(rotations)}
        one = Sample(
            f"{question}-{rotation}", fields, references=("A",), choices=OPTIONS, cluster=question
        )
        score = scorer.score(one, Response(text=reply))
        for summary in summaries:
            summary.accumulator.add(one, score)
    return [summary.accumulator.result()[0] for summary in summaries]


def test_circular_wants_every_rotation_right() -> None:
    replies = {("p", 0): "A", ("p", 1): "A", ("q", 0): "A", ("q", 1): "B"}
    assert circular(replies) == [50.0, 100.0]


def test_a_question_without_all_its_rotations_does_not_count_as_circular() -> None:
    """Neither as right nor as wrong: not under a limit, nor where a request failed."""
    replies = {("p", 0): "A", ("q", 0): "B", ("q", 1): "A"}
    assert circular(replies) == [0.0, 50.0]
    assert circular({("p", 0): "A"}) == [None, 100.0]


def test_contents_are_ranked_and_the_letter_of_the_best_is_compared() -> None:
    scorer = ChoiceAccuracy(by_letter=True)
    right = scorer.score(sample(), Response(log_probs=(-3.0, -1.0, -2.0, -2.0)))
    assert (right.value, right.prediction, scorer.label) == (1.0, "B", "accuracy/ranked_contents")
    # Two options can say the same; the letters still tell them apart.
    twins = Sample("1", references=("B",), choices=("red", "red"))
    assert scorer.score(twins, Response(log_probs=(-1.0, -2.0))).value == 0
