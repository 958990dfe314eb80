"""The contact sheet shows prompts and results, right ones in green, and refuses what has no images."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from PIL import Image

from emu2eval import evaluate
from emu2eval.errors import ConfigError
from emu2eval.report import sheet
from emu2eval.runs.scores import read_scores

from ..tasks.layouts import dreambench

PAINTER = '''
from PIL import Image, ImageDraw
from emu2eval import Adapter, Limits, Response
from emu2eval.media.images import from_pil


class Reds(Adapter):
    """Draws a red circle, whatever is asked; fails at teal."""

    limits = Limits(outputs=frozenset({"image"}), batch=8)

    def answer(self, requests):
        return [self.paint(request) for request in requests]

    def paint(self, request):
        if "teal" in str(request.prompt.query):
            return Response(error="no teal left")
        image = Image.new("RGB", (64, 64), "white")
        ImageDraw.Draw(image).ellipse((12, 12, 44, 44), fill="red")
        # No two images alike, as of a real painter.
        image.putpixel((0, 0), (request.output.seed % 200, 255, 255))
        return Response(images=(from_pil(image),))
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


SOLID = '''
from PIL import Image
from emu2eval import Adapter, Limits, Response
from emu2eval.media.images import from_pil


class Solid(Adapter):
    """Draws one colour, another for each seed."""

    limits = Limits(outputs=frozenset({"image"}), batch=8)

    def answer(self, requests):
        colours = [(r.output.seed % 251, r.output.seed // 251 % 251, 77) for r in requests]
        return [Response(images=(from_pil(Image.new("RGB", (32, 32), c)),)) for c in colours]
'''


def test_every_image_of_a_prompt_stands_with_its_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dreambench.write(tmp_path / "data")
    monkeypatch.setenv("EMU2EVAL_DATA", str(tmp_path / "data"))
    (tmp_path / "solid.py").write_text(SOLID)
    (tmp_path / "solid.yaml").write_text('name: solid\nadapter: "solid:Solid"\n')
    options = "task.score.options"
    changes = [f"{options}.dino=null", f"{options}.clip_t=null"]
    changes.append(f"{options}.clip_i.encoder=thumbnail")
    heights = []
    for count in (1, 4):
        (result,) = evaluate(
            "dreambench", "./solid.yaml", limit=2, out=tmp_path / "runs",
            changes=[*changes, f"task.output.images={count}"],
        )  # fmt: skip
        assert sheet.draw(result.folder, tmp_path / "sheet.png") == 2
        shown = colours(tmp_path / "sheet.png")
        made = set()
        for path in (result.folder / "images").iterdir():
            with Image.open(path) as image:
                made.add(image.getpixel((0, 0)))
        assert made <= shown and len(made) == 2 * count
        # A cosine is neither right nor wrong.
        assert not {(24, 128, 56), (197, 34, 31)} & shown
        with Image.open(tmp_path / "sheet.png") as image:
            heights.append(image.height)
    assert heights[1] > heights[0] + 96
    (first, *_) = read_scores(result.folder)
    assert first.value is not None and sheet._judgement(first)[1] == f"clip_i {first.value:.2f}"


def test_demonstrations_are_shown_as_images(model: Path, tmp_path: Path) -> None:
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
    with pytest.raises(ConfigError, match="no generated images"):
        sheet.draw(result.folder, tmp_path / "sheet.png")
    with pytest.raises(ConfigError, match=r"\.png"):
        sheet.draw(result.folder, tmp_path / "sheet.txt")
