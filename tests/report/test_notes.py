"""What is said beside a number is written from the row's fields, and from nothing else."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from emu2eval.report.notes import SENTENCES, notes, of_marks
from emu2eval.types import AnswerSource, Mark, Published, Row, Shots

ROW = Row(
    run="r", task="t", model="m", shots=Shots(4), protocol="emu2", split="test", metric="accuracy",
    value=50.0, stderr=1.0, n=100, unscored=0, covered=9673, queries=9673,
)  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, ()),
        ({"covered": 500}, ("500 of 9,673 queries",)),
        (
            {"size": Published(5, 10)},
            ("this copy of the split has 5 samples, the official one 10",),
        ),
        ({"sources": {"queries": "hub"}}, ("queries from the hub",)),
        ({"shortened": 12}, ("12 prompts shortened to fit",)),
        ({"shortened": 1}, ("1 prompt shortened to fit",)),
        (
            {"imported": "lm-eval", "source": AnswerSource("lm-eval 0.4.8")},
            ("imported from lm-eval 0.4.8, shots from its log", "scored as emu2"),
        ),
        (
            {"imported": "mine", "source": AnswerSource("a.json", told=True, logged=3)},
            ("imported from a.json, shots as given (the log says 3)", "scored as emu2"),
        ),
        ({"hidden": 3}, ("3 answers are hidden (no public references)",)),
        (
            {"hidden": 1200, "server": True, "value": None},
            ("1,200 answers are hidden; to write the test server's file: emu2eval submit r",),
        ),
        ({"changes": ("task.output.beams=3",)}, ("changed settings: task.output.beams=3",)),
        ({"notes": ("needs Java",)}, ("needs Java",)),
        ({"set_scaled": True}, ("the scale depends on the set of samples",)),
    ],
)
def test_a_sentence_for_each_field(fields: dict[str, object], said: tuple[str, ...]) -> None:
    assert notes(replace(ROW, **fields)) == said


@pytest.mark.parametrize(
    ("marks", "said"),
    [
        ([(Mark("server", "gpt-4o-05-13"), 9)], []),
        (
            [(Mark("server", "gpt-4o-05-13"), 9), (Mark("server", "gpt-4o-08-06"), 1)],
            ["the server changed its model: gpt-4o-05-13, gpt-4o-08-06"],
        ),
        (
            [(Mark("tiles", 4), 3), (Mark("tiles", 8), 3)],
            ["the demonstrations' images were shown as tiles of one image"],
        ),
        ([(Mark("unmet", "beams"), 1000)], ["1,000 answers without the task's beams"]),
        ([(Mark("first_token"), 2)], ["2 answers ranked by only the first token of each choice"]),
        (
            [(Mark("images_moved"), 2)],
            [
                "in 2 prompts the model's chat template moved images to a different position in the text"
            ],
        ),
        ([(Mark("flagged"), 1)], ["1 image blacked out by the safety checker"]),
        (
            [(Mark("first"), 1)],
            ["1 answer determined by the model's reply to the task's first question"],
        ),
        ([(Mark("unreadable"), 2)], ["2 samples in the data could not be read"]),
        ([(Mark("drawn"), 1200)], ["1,200 answers sampled at random rather than the most likely"]),
        (
            [(Mark("rounds", 3), 2), (Mark("rounds", 4), 1), (Mark("cached"), 5)],
            ["2 answers marked rounds 3", "1 answer marked rounds 4", "5 answers marked cached"],
        ),
    ],
)
def test_marks_of_every_kind_and_of_a_plug_in_s_own(
    marks: list[tuple[Mark, int]], said: list[str]
) -> None:
    assert list(of_marks(marks)) == said


def test_every_kind_has_a_sentence_that_is_tried_above() -> None:
    known = {
        "server",
        "tiles",
        "images_moved",
        "unmet",
        "first_token",
        "flagged",
        "unreadable",
        "first",
        "drawn",
    }
    assert set(SENTENCES) == known
