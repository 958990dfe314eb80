"""Results as a notebook shows them: the table, frames, a chart, and what was said on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from emu2eval import Evaluation, evaluate
from emu2eval.errors import UserError
from emu2eval.testing import ScriptedModel, small_task
from emu2eval.watch import Watcher


def half(prompt: Any) -> str | None:
    return "red" if "square 0" in str(prompt.query) else None


@pytest.fixture
def made(tmp_path: Path) -> Evaluation:
    return evaluate(
        small_task(tmp_path, queries=2), [ScriptedModel("red"), half], shots=[0, 2], out=tmp_path
    )


def test_a_table_with_what_was_said(made: Evaluation) -> None:
    text, page = repr(made), made._repr_html_()
    for told in (text, page):
        assert told.count("scripted") >= 2 and "50.00" in told
        assert (
            "1 requests of small_0-shot_half" in told and "the function returned NoneType" in told
        )
        assert told.count("the answers of half cannot be reused") == 1
    assert "task: small" in page and "<td>small</td>" not in page  # what all share stands once
    assert "Result(small, scripted, 0 shots: exact_match 50.00" in repr(made[0])
    assert repr(Evaluation()) == "Evaluation([])" and Evaluation()._repr_html_()


def test_nothing_of_a_name_is_markup(tmp_path: Path) -> None:
    (made,) = (evaluate(small_task(tmp_path), half, name="<b>[red]", out=tmp_path),)
    assert "<b>" not in made._repr_html_() and "&lt;b&gt;[red]" in made._repr_html_()
    assert "<b>[red]" in repr(made)


def test_frames(made: Evaluation, tmp_path: Path) -> None:
    table = made.frame().pivot(index="model", columns="shots", values="value")
    assert list(table.columns) == [0, 2] and table.loc["scripted", 0] == 50
    assert len(made.frame(groups=True)) > len(made.frame()) == 4
    samples = made.samples()
    assert list(samples.columns[:4]) == ["task", "model", "shots", "id"] and len(samples) == 8
    texts = evaluate(small_task(tmp_path), half, shots=["0*", 0], out=tmp_path).frame()
    assert list(texts.shots) == ["0*", "0"]


def test_curves(made: Evaluation, tmp_path: Path) -> None:
    assert made.curves(tmp_path / "a.svg")._repr_png_().startswith(b"\x89PNG")
    assert (tmp_path / "a.svg").is_file()
    with pytest.raises(UserError, match=r"curves can be written as \.png"):
        made.curves("a.gif")


def test_a_watcher_hears_the_notes_too(tmp_path: Path) -> None:
    class Hears(Watcher):
        said: tuple[str, ...] = ()

        def note(self, text: str) -> None:
            self.said += (text,)

    hears = Hears()
    made = evaluate(small_task(tmp_path), half, out=tmp_path, watcher=hears)
    assert list(hears.said) == made.notes
