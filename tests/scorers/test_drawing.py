"""The judge of drawings: right on real images first, then on what is no drawing at all."""

from __future__ import annotations

import doctest
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw, ImageFilter

from emu2eval import evaluate
from emu2eval.data.easy_vqa import shape_images
from emu2eval.media import images
from emu2eval.scorers import drawing
from emu2eval.scorers.base import ScoringError
from emu2eval.scorers.drawing import Drawing, look
from emu2eval.types import Response, Sample


def test_examples_in_docstrings() -> None:
    assert doctest.testmod(drawing).failed == 0


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_the_judge_is_right_on_real_images(every: int) -> None:
    """Measured: all 954 known shapes and all 922 known colours of the published test images."""
    shown = [(s, look(images.load(s.image))) for s in shape_images("test")[::every]]
    shapes = [seen.shape == s.shape for s, seen in shown if s.shape is not None]
    colours = [seen.colour == s.colour for s, seen in shown if s.colour is not None]
    assert min(len(shapes), len(colours)) > 900 // every
    assert sum(shapes) >= 0.99 * len(shapes)
    assert sum(colours) >= 0.99 * len(colours)


def test_soft_and_noisy_drawings_are_still_told() -> None:
    image = Image.new("RGB", (64, 64), (240, 235, 250))
    ImageDraw.Draw(image).ellipse((20, 30, 45, 55), fill="brown")
    assert look(image.filter(ImageFilter.GaussianBlur(1))).name == "brown circle"
    noise = Image.effect_noise((64, 64), 12).convert("RGB")
    assert look(Image.blend(image, noise, 0.1)).name == "brown circle"


def test_what_is_no_shape_is_called_none() -> None:
    assert look(Image.new("RGB", (64, 64), "white")).name == "no colour no shape"
    two = Image.new("RGB", (64, 64), "white")
    pen = ImageDraw.Draw(two)
    pen.rectangle((4, 4, 14, 14), fill="red")
    pen.rectangle((44, 44, 60, 60), fill="red")
    assert look(two).shape is None
    ring = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(ring).ellipse((10, 10, 50, 50), outline="blue", width=6)
    assert (look(ring).colour, look(ring).shape) == ("blue", None)


def test_colour_and_shape_must_both_be_right() -> None:
    image = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(image).rectangle((10, 10, 40, 30), fill="teal")
    response = Response(images=(images.from_pil(image),))

    def score(reference: str) -> float | None:
        return Drawing().score(Sample("1", references=(reference,)), response).value

    assert (score("teal rectangle"), score("red rectangle"), score("teal circle")) == (1, 0, 0)
    half = Drawing().score(Sample("1", references=("teal circle",)), response)
    assert half.prediction == "teal rectangle"
    assert (half.details["colour"], half.details["shape"]) == (True, False)


def test_what_cannot_be_judged_is_refused() -> None:
    image = Response(images=(images.from_pil(Image.new("RGB", (8, 8), "white")),))
    with pytest.raises(ScoringError):
        Drawing().score(Sample("1", references=("a big dog",)), image)
    with pytest.raises(ScoringError):
        Drawing().score(Sample("1", references=("red circle",)), Response(text="red circle"))
    assert Drawing().score(Sample("1"), image).value is None


def test_a_judge_adds_a_number_of_its_own(tmp_path: Path) -> None:
    """emu2-nano draws and is asked about its own drawings; geometry says the same with and without."""
    options: dict[str, Any] = {"shots": [0], "limit": 4, "out": tmp_path / "runs"}
    (judged,) = evaluate("easy-vqa-draw", "emu2-nano", judge="emu2-nano", **options)
    whole = [row for row in judged.rows if row.group is None]
    assert [row.label for row in whole] == ["drawn_right", "answered_right by emu2-nano"]
    assert all(row.value is not None and row.unscored == 0 for row in whole)
    lines = (judged.folder / "scores.jsonl").read_text().splitlines()
    for line in map(json.loads, lines):
        answers = line["details"]["answers"]
        right = [answers["colour"], answers["shape"]] == line["id"].split("-")[:2]
        assert line["details"]["answered"] == right
    # Without the judge nobody is asked, and what it said still counts.
    (plain,) = evaluate("easy-vqa-draw", "emu2-nano", **options)
    assert plain.rows == judged.rows
    assert (plain.tally.asked, plain.judged.asked) == (0, 0)
    # More drawings, which the judge has not seen: its number says how many it lacks.
    (more,) = evaluate("easy-vqa-draw", "emu2-nano", **{**options, "limit": 6})
    drawn, answered = (row for row in more.rows if row.group is None)
    assert (drawn.n, drawn.unscored) == (6, 0)
    assert (answered.n, answered.unscored) == (4, 2)
    # Nothing of it is in a run that was never judged.
    (never,) = evaluate("easy-vqa-draw", "emu2-nano", **{**options, "out": tmp_path / "others"})
    assert [row.label for row in never.rows if row.group is None] == ["drawn_right"]
    assert never.rows[0].value == whole[0].value
