"""The contact sheet shows prompts and results, right ones in green, and refuses what has no pictures."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from PIL import Image

from emu2eval import evaluate
from emu2eval.errors import ConfigError
from emu2eval.report import sheet

PAINTER = '''
from PIL import Image, ImageDraw
from emu2eval import Adapter, Limits, Response
from emu2eval.pictures import from_image


class Reds(Adapter):
    """Draws a red circle, whatever is asked; fails at teal."""

    limits = Limits(outputs=frozenset({"picture"}), batch=8)

    def answer(self, requests):
        return [self.paint(request) for request in requests]

    def paint(self, request):
        if "teal" in str(request.prompt.query):
            return Response(error="no teal left")
        image = Image.new("RGB", (64, 64), "white")
        ImageDraw.Draw(image).ellipse((12, 12, 44, 44), fill="red")
        # No two pictures alike, as of a real painter.
        image.putpixel((0, 0), (request.output.seed % 200, 255, 255))
        return Response(picture=from_image(image))
'''


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "reds.py").write_text(PAINTER)
    path = tmp_path / "reds.yaml"
    path.write_text('name: reds\nadapter: "reds:Reds"\n')
    monkeypatch.delitem(sys.modules, "reds", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return path


def colours(file: Path) -> set[tuple[int, ...]]:
    with Image.open(file) as image:
        return {colour for _, colour in image.convert("RGB").getcolors(1 << 20) or ()}  # type: ignore[misc]


def test_prompts_and_results_are_on_it(model: Path, tmp_path: Path) -> None:
    (result,) = evaluate("easy-vqa-draw", str(model), shots=[2], limit=40, out=tmp_path / "runs")
    assert result.tally.failed
    assert sheet.draw(result.folder, tmp_path / "sub" / "sheet.png") == 40
    shown = colours(tmp_path / "sub" / "sheet.png")
    right, wrong = (24, 128, 56), (197, 34, 31)
    assert {right, wrong} <= shown
    # The demonstrations are there: teal is in no result, as the model has none.
    assert sheet.draw(result.folder, tmp_path / "few.png", most=5) == 5
    with Image.open(tmp_path / "few.png") as few, Image.open(tmp_path / "sub/sheet.png") as all_:
        assert few.height < all_.height / 3


def test_demonstrations_are_shown_as_pictures(model: Path, tmp_path: Path) -> None:
    heights = []
    for shots in (0, 8):
        (result,) = evaluate(
            "easy-vqa-draw", str(model), shots=[shots], limit=5, out=tmp_path / "runs"
        )
        sheet.draw(result.folder, tmp_path / "sheet.png")
        with Image.open(tmp_path / "sheet.png") as image:
            heights.append(image.height)
    assert heights[1] > heights[0] + 3 * 40


def test_what_is_no_sheet(model: Path, tmp_path: Path) -> None:
    (result,) = evaluate("easy-vqa", "most-common", shots=[1], limit=3, out=tmp_path / "runs")
    with pytest.raises(ConfigError, match="asks for text"):
        sheet.draw(result.folder, tmp_path / "sheet.png")
    with pytest.raises(ConfigError, match=r"\.png"):
        sheet.draw(result.folder, tmp_path / "sheet.txt")
