"""One query of a stored run as a person reads it: its prompt, and all that the model said."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from emu2eval import evaluate
from emu2eval.errors import ConfigError, UnknownName
from emu2eval.report.answer import show_answer
from emu2eval.testing import ScriptedModel
from emu2eval.types import Mark, Response


def printed(*asked: Any) -> str:
    out = io.StringIO()
    Console(file=out, width=200).print(show_answer(*asked), soft_wrap=True)
    return out.getvalue()


def test_thought_raw_text_and_score_stand_below_the_prompt(make_task: Any) -> None:
    whole = Response(
        text="blue",
        raw="<think>A square.</think>\n\nblue",
        thought="A square.",
        ended="stop",
        marks=(Mark("cached", 2),),
    )
    replies = {"square 2?": whole, "square 3?": Response(error="out of luck")}
    task = str(make_task(output={"stop": ["\n"]}))
    (result,) = evaluate(task, ScriptedModel(replies), shots=2, limit=12, out="runs")
    text = printed(result.folder, 2, None, 0)
    assert "'what colour is square 2? Answer:'" in text and text.count("demonstration ") == 2
    below = text[text.index("answer ") :].splitlines()[1:]
    assert below == [
        "thought: 'A square.'",
        "raw text: '<think>A square.</think>\\n\\nblue'",
        "text: 'blue'",
        "ended by: stop",
        "marked: cached 2",
        "compared: 'blue'",
        "score: 1",
    ]
    failed = printed(result.folder, 0, "q0003", 0)
    assert failed.splitlines()[-2:] == ["error: out of luck", "unscored: out of luck"]


def test_log_probabilities_stand_beside_their_choices(make_task: Any) -> None:
    output = {"kind": "choice", "choices": ["red", "green"]}
    task = str(make_task(output=output, score={"scorer": "choice"}))
    (result,) = evaluate(task, ScriptedModel((-0.5, -1.25)), out="runs")
    assert "log-probabilities: 'red' -0.5, 'green' -1.25" in printed(result.folder, 0, None, 0)


def test_a_query_that_was_not_asked_about(make_task: Any) -> None:
    (result,) = evaluate(str(make_task()), ScriptedModel(), limit=3, out=Path("runs"))
    asked = [row for row in printed(result.folder, 2, None, 0).splitlines() if "query q" in row]
    assert len(asked) == 1
    with pytest.raises(ConfigError, match="the run has queries 0 to 2"):
        show_answer(result.folder, 3, None, 0)
    with pytest.raises(UnknownName, match="q9999"):
        show_answer(result.folder, 0, "q9999", 0)
    with pytest.raises(ConfigError, match="--trial 1: out of range; the run has 1"):
        show_answer(result.folder, 0, None, 1)
