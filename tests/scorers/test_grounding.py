"""Boxes: how they are written and read, and which of them are right."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emu2eval.errors import ConfigError
from emu2eval.media import boxes
from emu2eval.media.boxes import COORDINATES, Coordinates, Quantiser, iou, read, write
from emu2eval.registry import build
from emu2eval.scorers.base import ScoringError
from emu2eval.scorers.grounding import Grounding
from emu2eval.types import Response, Sample, Score

SIZE = (200, 100)
TRUTH = (20.0, 10.0, 120.0, 60.0)


def score(text: str, truth: str = str(list(TRUTH)), **options: Any) -> Score:
    fields = {"width": "200", "height": "100"}
    sample = Sample("q", fields=fields, references=(truth,) if truth else ())
    return Grounding(**options).score(sample, Response(text=text))


@pytest.mark.parametrize("kind", COORDINATES)
def test_what_a_demonstration_shows_is_right_as_an_answer(kind: Coordinates) -> None:
    text = write(TRUTH, SIZE, kind)
    assert score(text, coordinates=kind).value == 1
    found = read(text, SIZE, kind)
    assert found is not None
    assert iou(found, TRUTH) > 0.97


TOKENS = "<patch_index_0022><patch_index_0022><patch_index_0134><patch_index_0134>"


@pytest.mark.parametrize(
    "text",
    [
        TOKENS,
        # As Emu2's own tokenizer sets them off, and as the paper names them.
        "<phrase> a dog </phrase> <object> " + TOKENS.replace("><", "> <") + " </object>",
        "<p>a dog</p><coor><loc022><loc022><loc134><loc134></coor>",
        TOKENS + "</delimiter_of_multi_objects/>" + TOKENS.replace("0134", "0224"),
    ],
)
def test_location_tokens(text: str) -> None:
    assert score(text, coordinates="tokens").value == 1
    assert read(text, (224, 448), "tokens") == (22, 44, 134, 268)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no idea",
        "[20, 10, 120, 60]",
        "<loc022><loc022><loc134>",
        "<loc022> and <loc022><loc134><loc134>",
        # The vocabulary goes to 256, places to 224.
        "<loc022><loc022><loc134><loc225>",
    ],
)
def test_without_four_tokens_an_answer_is_wrong_and_counted(text: str) -> None:
    found = score(text, coordinates="tokens")
    assert (found.value, found.prediction, dict(found.details)) == (0, None, {"unparsable": 1})


def test_a_token_is_the_edge_of_its_bin_or_the_centre() -> None:
    assert read(TOKENS, (224, 224), "tokens") == (22, 22, 134, 134)
    assert read(TOKENS, (224, 224), "tokens", Quantiser("centre")) == (22.5, 22.5, 134.5, 134.5)
    assert Quantiser("centre").place(224) == 1
    assert Grounding("tokens").label == "grounding_accuracy@0.5/tokens-edge"
    assert Grounding("tokens", "centre", 100).label.endswith("/tokens-centre-100")


@settings(deadline=None)
@given(st.floats(0, 1), st.sampled_from(["edge", "centre"]))
def test_a_place_is_found_again_within_half_a_bin(place: float, at: Any) -> None:
    quantiser = Quantiser(at)
    found = quantiser.place(quantiser.token(place))
    assert found is not None
    assert abs(found - place) <= 0.5 / boxes.BINS + 1e-12


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("[0.1, 0.1, 0.6, 0.6]", "unit"),
        ("The 2 dogs are at (.1,.1),(.6,.6).", "unit"),
        ("10 10 60 60", "percent"),
        ("<box>(100,100),(600,600)</box>", "thousand"),
        ("[100, 100, 600, 600] or [0, 0, 1, 1]", "thousand"),
        ("box: [20.0, 10, 120, 60]", "pixels"),
    ],
)
def test_plain_numbers(text: str, kind: Coordinates) -> None:
    assert read(text, SIZE, kind) == pytest.approx(TRUTH)


def test_numbers_are_never_guessed_to_be_of_another_kind() -> None:
    """A box in thousandths that is read as parts of the side is wrong, although it could be guessed."""
    assert score("[100, 100, 600, 600]", coordinates="unit").value == 0
    assert score("[0.1, 0.1, 0.6, 0.6]", coordinates="thousand").value == 0


@pytest.mark.parametrize(
    "text", ["1, 2, 3", "1 2 3 and 4", "a1 2 3 4", "1.2.3.4", "1-2-3-4", "1 2 3 0.4x"]
)
def test_what_is_no_four_numbers(text: str) -> None:
    assert read(text, SIZE, "pixels") is None


def test_areas_have_no_extra_pixel_and_half_is_enough() -> None:
    """Exactly 0.5 is right; with the +1 that some codes count it would be 231/451 here."""
    assert iou((0, 0, 20, 20), (0, 0, 20, 10)) == 0.5
    assert score("[0, 0, 20, 20]", "[0, 0, 20, 10]", coordinates="pixels").value == 1
    assert score("[0, 0, 20, 20.1]", "[0, 0, 20, 10]", coordinates="pixels").value == 0
    assert score("[0, 0, 20, 20]", "[0, 0, 20, 10]", coordinates="pixels", iou=0.6).value == 0


def test_corners_in_the_wrong_order_make_no_box() -> None:
    found = score("[120, 60, 20, 10]", coordinates="pixels")
    assert (found.value, found.details["iou"], found.details["unparsable"]) == (0, 0, 0)
    assert iou((0, 0, 0, 0), (0, 0, 0, 0)) == 0


coordinate = st.floats(-50, 300)
box = st.tuples(coordinate, coordinate, coordinate, coordinate)


@settings(deadline=None)
@given(box, box)
def test_overlap_is_between_0_and_1_and_the_same_from_both_sides(a: Any, b: Any) -> None:
    assert 0 <= iou(a, b) <= 1
    assert iou(a, b) == pytest.approx(iou(b, a))


def test_the_share_without_a_box_is_a_row_of_its_own() -> None:
    scorer = Grounding("pixels")
    summaries = scorer.summaries()
    fields = {"width": "200", "height": "100"}
    for number, text in enumerate(["[20, 10, 120, 60]", "there", "[0, 0, 1, 1]", "here"]):
        sample = Sample(str(number), fields=fields, references=(str(list(TRUTH)),))
        for summary in summaries:
            summary.accumulator.add(sample, scorer.score(sample, Response(text=text)))
    rows = {s.label: (s.accumulator.result()[0], s.higher_is_better) for s in summaries}
    assert rows == {"grounding_accuracy@0.5/pixels": (25, True), "unparsable": (50, False)}


def test_what_cannot_be_scored_is_said() -> None:
    assert score("[1, 2, 3, 4]", truth="").value is None
    with pytest.raises(ScoringError, match="box in pixels"):
        score("[1, 2, 3, 4]", truth="left")
    with pytest.raises(ScoringError, match="no image size"):
        Grounding().score(Sample("q", references=("[1, 2, 3, 4]",)), Response(text=""))
    for options, says in (
        ({"coordinates": "per cent"}, "did you mean 'percent'"),
        ({"dequantise": "middle"}, "expected 'centre' or 'edge'"),
        ({"bins": 0}, "an integer of at least 1, got 0"),
        ({"iou": 0}, "a number above 0 and of at most 1, got 0"),
    ):
        with pytest.raises(ConfigError, match=says):
            build("scorer", "grounding", options)
    assert set(COORDINATES) == set(get_args(Coordinates))
