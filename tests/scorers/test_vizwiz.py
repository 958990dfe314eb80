"""VizWiz: each annotator left out by place, answers compared as they are, answerability."""

from __future__ import annotations

import pytest

from emu2eval.scorers.vizwiz import VizWiz
from emu2eval.scorers.vqa import vqa_accuracy
from emu2eval.types import Response, Sample


def asked(answers: list[str], answerable: bool = True) -> Sample:
    return Sample(
        "1", references=tuple(answers), groups={"answerable": "yes" if answerable else "no"}
    )


def test_ten_equal_answers_are_left_out_by_place_and_not_together() -> None:
    sample = asked(["grey"] * 10)
    assert VizWiz().score(sample, Response(text="grey")).value == 1
    assert vqa_accuracy("grey", ["grey"] * 10, "by_record") == 0  # so would VQA's official class


def test_answers_are_compared_as_they_are_and_predictions_normalised() -> None:
    assert VizWiz().score(asked(["grey"] * 10), Response(text="The Grey!")).value == 1
    assert VizWiz().score(asked(["Grey"] * 10), Response(text="Grey")).value == 0


def test_answerability_takes_the_unanswerable_for_positive() -> None:
    scorer = VizWiz()
    summaries = scorer.summaries()
    replies = ["Unanswerable.", "unanswerable", "red", "red", "red"]
    truth = [False, True, False, True, True]
    for reply, answerable in zip(replies, truth, strict=True):
        sample = asked(["red"] * 10, answerable)
        for summary in summaries:
            summary.accumulator.add(sample, scorer.score(sample, Response(text=reply)))
    values = {s.label: s.accumulator.result()[0] for s in summaries}
    # Two said to be unanswerable, one of them rightly; two are. Then all the rest, at 2 in 5.
    assert values == {
        "vqa_accuracy/vizwiz": pytest.approx(60),
        "unanswerable_ap/of_answers": pytest.approx(100 * (0.5 * 0.5 + 0.5 * 0.4)),
        "unanswerable_f1/of_answers": pytest.approx(50),
    }


def test_a_test_split_has_neither() -> None:
    score = VizWiz().score(Sample("1"), Response(text="red"))
    assert score.value is None
    assert "positive" not in score.details
