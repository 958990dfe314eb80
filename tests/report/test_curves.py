"""Curves: every run is in the image, and what cannot be drawn is said."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace
from PIL import Image

from emu2eval.errors import ConfigError, MissingExtra
from emu2eval.report.curves import bars, draw
from emu2eval.types import Row, Shots

ROW = Row(
    run="r", task="easy-vqa", model="nearest", shots=Shots(4), protocol="plain", split="test",
    metric="exact_match", value=33.3, stderr=1.25, n=9673, unscored=0, covered=9673, queries=9673,
)  # fmt: skip
TEXT_ONLY = Shots(2, text_only=True)
ROWS = [
    replace(ROW, shots=shots, model=model, task=task)
    for shots in (Shots(0), Shots(4), Shots(16), TEXT_ONLY)
    for model in ("nearest", "<script>$x^2$")
    for task in ("easy-vqa", "vqav2")
]


def test_every_panel_and_line_is_drawn(tmp_path: Path) -> None:
    draw(ROWS, tmp_path / "sub" / "curves.svg")
    text = (tmp_path / "sub" / "curves.svg").read_text()
    for name in ("easy-vqa (test, plain)", "vqav2 (test, plain)", "nearest", "demonstrations"):
        assert name in text
    assert re.findall(r">(\d+)</text>", text).count("16") == 2
    assert "<script>" not in text
    draw(ROWS, tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_text() == text
    draw(ROWS, tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as image:
        assert image.width > 800


def test_bars_are_the_intervals() -> None:
    ends = replace(ROW, value=2.0, low=1.0, high=6.0)
    assert bars([ends, replace(ROW, low=None)]) == [[1.0, 0.0], [4.0, 0.0]]


def test_ablated_runs_are_no_points_of_the_curve(tmp_path: Path) -> None:
    labels = replace(ROW, shots=Shots(7), ablation="labels")
    draw([ROW, labels, replace(labels, shots=Shots(9), ablation="none")], tmp_path / "curves.svg")
    text = (tmp_path / "curves.svg").read_text()
    assert ">7<" not in text and ">9<" in text


def test_seeds_are_lines_and_judges_and_imports_are_panels(tmp_path: Path) -> None:
    rows = [
        ROW,
        replace(ROW, seed=3),
        replace(ROW, judge="gpt-4"),
        replace(ROW, imported="lm-eval"),
    ]
    draw(rows, tmp_path / "curves.svg")
    text = (tmp_path / "curves.svg").read_text()
    for name in ("nearest, seed 3", "exact_match by gpt-4", "easy-vqa (test, imported-lm-eval)"):
        assert name in text


def test_what_cannot_be_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"not \.gif"):
        draw(ROWS, tmp_path / "curves.gif")
    with pytest.raises(ConfigError, match="no scored runs"):
        draw([replace(ROW, value=None), replace(ROW, shots=TEXT_ONLY)], tmp_path / "curves.svg")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra) as caught:
        draw(ROWS, tmp_path / "curves.svg")
    assert "emu2eval[plots]" in str(caught.value.hint)
