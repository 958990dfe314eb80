"""Curves: every run is in the image, and what cannot be drawn is said."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from emu2eval.errors import ConfigError, MissingExtra
from emu2eval.report.curves import bars, draw
from emu2eval.types import Row

ROW = Row(
    task="easy-vqa", model="nearest", shots="4", protocol="plain", split="test",
    metric="exact_match", value=33.3, stderr=1.25, n=9673, unscored=0, seconds=12.3,
)  # fmt: skip
ROWS = [
    replace(ROW, shots=shots, model=model, task=task)
    for shots in ("0", "4", "16", "0*")
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
    assert bars([ends, replace(ROW, stderr=2.0)]) == [[1.0, 3.92], [4.0, 3.92]]


def test_ablated_runs_are_no_points_of_the_curve(tmp_path: Path) -> None:
    draw([ROW, replace(ROW, shots="7 (labels)")], tmp_path / "curves.svg")
    assert ">7<" not in (tmp_path / "curves.svg").read_text()


def test_what_cannot_be_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"not \.gif"):
        draw(ROWS, tmp_path / "curves.gif")
    with pytest.raises(ConfigError, match="no scored run"):
        draw([replace(ROW, value=None), replace(ROW, shots="0*")], tmp_path / "curves.svg")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra) as caught:
        draw(ROWS, tmp_path / "curves.svg")
    assert "emu2eval[plots]" in str(caught.value.hint)
