"""`emu2eval.testing`: a scripted model and a small task, as the tests of a plug-in use them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from emu2eval import (
    Limits,
    Mark,
    PlanError,
    Prompt,
    Request,
    Response,
    TextOutput,
    evaluate,
    images,
    load_task,
)
from emu2eval.data.load import load_split
from emu2eval.testing import COLOURS, ScriptedModel, small_task, square


def test_one_answer_for_all_and_answers_by_the_query(tmp_path: Path) -> None:
    task = small_task(tmp_path)
    (same,) = evaluate(task, ScriptedModel("red"), out=tmp_path)
    assert (same.rows[0].value, same.rows[0].n, same.rows[0].model) == (20, 5, "scripted")
    by_query = ScriptedModel({"square 0": "red", "square 1": "green", "": "pink"}, name="knows two")
    (some,) = evaluate(task, by_query, out=tmp_path)
    assert (some.rows[0].value, some.rows[0].model) == (40, "knows two")


def test_a_function_of_the_request_and_what_was_asked(tmp_path: Path) -> None:
    def nearest(request: Request) -> Response:
        turns = request.prompt.turns
        said = str(turns[-1].reply[0]) if turns else "?"
        return Response(text=said, marks=(Mark("guessed"),))

    model = ScriptedModel(nearest)
    (result,) = evaluate(small_task(tmp_path, queries=7), model, shots=2, out=tmp_path)
    assert len(model.asked) == 7
    assert {len(request.prompt.turns) for request in model.asked} == {2}
    assert result.rows[0].marks == ((Mark("guessed"), 7),)


def test_answers_of_a_function_are_never_those_of_another(tmp_path: Path) -> None:
    task, texts = small_task(tmp_path), ("red", "green")
    values = []
    for text in texts:
        model = ScriptedModel(lambda request, text=text: text)
        (result,) = evaluate(task, model, out=tmp_path / "runs")
        assert len(model.asked) == 5
        values.append([row.prediction for row in _scores(result.folder)])
    assert values == [["red"] * 5, ["green"] * 5]
    again = ScriptedModel("red"), ScriptedModel("red")
    for model in again:
        evaluate(task, model, out=tmp_path / "runs")
    assert [len(model.asked) for model in again] == [5, 0]  # a text says all that decides it


def _scores(folder: Path) -> list[Any]:
    from emu2eval.runs.scores import read_scores

    return list(read_scores(folder))


def test_choices_are_ranked(tmp_path: Path) -> None:
    task = small_task(tmp_path, output={"kind": "choice"}, score={"scorer": "choice"})
    (by_text,) = evaluate(task, ScriptedModel("blue"), out=tmp_path)
    (by_numbers,) = evaluate(task, ScriptedModel([-2.0, -2.0, -0.1, -3.0, -3.0]), out=tmp_path)
    assert by_text.rows[0].value == by_numbers.rows[0].value == 20


def test_drawings_are_scored(tmp_path: Path) -> None:
    def paint(request: Request) -> Any:
        (asked,) = request.prompt.query
        colour = str(asked).split()[2]
        return square(colour, COLOURS.index(colour))

    task = small_task(tmp_path, draw=True)
    (result,) = evaluate(task, ScriptedModel(paint, outputs={"image"}), shots=1, out=tmp_path)
    assert result.rows[0].label == "clip_i/thumbnail"
    assert result.rows[0].value == pytest.approx(1)


def test_limits_are_kept(tmp_path: Path) -> None:
    task = small_task(tmp_path)
    with pytest.raises(PlanError, match="has 3 images, but scripted accepts 2"):
        evaluate(task, ScriptedModel("red", images=2), shots=2, out=tmp_path)
    with pytest.raises(PlanError, match="positions"):
        evaluate(task, ScriptedModel("red", positions=10), shots=2, out=tmp_path)
    model = ScriptedModel("red", positions=18)
    (result,) = evaluate(task, model, shots=2, fit=True, out=tmp_path)
    assert result.rows[0].shortened == 5
    assert {len(request.prompt.turns) for request in model.asked} == {1}
    assert ScriptedModel().limits == Limits(frozenset({"text", "choice"}), batch=8)


def test_no_two_squares_are_alike(tmp_path: Path) -> None:
    samples = load_split(load_task(str(small_task(tmp_path, pool=30))), "train")
    digests = {images.digest(part) for sample in samples for part in sample.images}  # type: ignore[arg-type]
    assert len(digests) == 30


def test_a_failing_script_is_an_unscored_answer(tmp_path: Path) -> None:
    model = ScriptedModel({"square 3": Response(error="no idea"), "": "red"})
    (result,) = evaluate(small_task(tmp_path), model, out=tmp_path)
    assert (result.rows[0].n, result.rows[0].unscored) == (4, 1)
    request = Request("k", Prompt(("what colour is square 3?",)), TextOutput())
    assert model.answer([request])[0].error == "no idea"
