"""`emu2eval.evaluate` from a notebook: objects for names, mappings for options, a paragraph for a mistake."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from emu2eval import Adapter, Limits, Request, Response, evaluate
from emu2eval.errors import ConfigError, UserError
from emu2eval.runs.record import read_record
from emu2eval.spec.task import load_task

MakeTask = Callable[..., Path]


class Says(Adapter):
    """Says one word."""

    def __init__(self, word: str = "red"):
        self.limits = Limits(frozenset({"text"}), batch=8)
        self.word = word
        self.asked = 0

    def answer(self, requests: Sequence[Request]) -> list[Response]:
        self.asked += len(requests)
        return [Response(text=self.word) for _ in requests]


class Known(Says):
    """One that says what decides its answers, so that they are kept for the next process."""

    name = "known"

    def identity(self) -> dict[str, Any]:
        return {"word": self.word}


def test_the_signature_is_written_out() -> None:
    parameters = inspect.signature(evaluate).parameters.values()
    assert not any(p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in parameters)


def test_single_values_stand_for_lists(make_task: MakeTask, tmp_path: Path) -> None:
    (result,) = evaluate(make_task(), "most-common", shots=4, out=str(tmp_path / "runs"))
    assert (result.rows[0].shots.count, result.folder.parent) == (4, tmp_path / "runs")


def test_adapters_are_models(make_task: MakeTask, tmp_path: Path) -> None:
    task, model = str(make_task()), Says("red")
    made, of_class = evaluate(task, [model, Says], shots=0, out=tmp_path)
    assert made.rows[0].model == of_class.rows[0].model == "Says"
    assert (made.rows[0].value, model.asked) == (of_class.rows[0].value, 12)
    assert made.folder != of_class.folder
    # The same object again: nothing is asked twice. Another one may have other weights.
    evaluate(task, model, out=tmp_path)
    assert model.asked == 12
    other = Says("blue")
    evaluate(task, other, out=tmp_path)
    assert other.asked == 12


def test_one_that_says_what_decides_its_answers_continues(
    make_task: MakeTask, tmp_path: Path
) -> None:
    task, again, changed = str(make_task()), Known("red"), Known("blue")
    (first,) = evaluate(task, Known("red"), out=tmp_path)
    (second,) = evaluate(task, again, out=tmp_path)
    assert (again.asked, second.folder, second.rows) == (0, first.folder, first.rows)
    evaluate(task, changed, out=tmp_path)
    assert changed.asked == 12
    assert read_record(first.folder).model.name == "known"


def test_tasks_are_objects_too(make_task: MakeTask, tmp_path: Path) -> None:
    task = load_task(str(make_task()), overrides={"output.max_new_tokens": 3})
    (result,) = evaluate(task, "most-common", shots=2, out=tmp_path)
    assert read_record(result.folder).identity.task.output["max_new_tokens"] == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"task": {"output": {"max_new_tokens": 3}}},
        {"task": {"output.max_new_tokens": 3}},
        ["task.output.max_new_tokens=3"],
    ],
)
def test_changes_are_mappings_or_assignments(
    make_task: MakeTask, tmp_path: Path, changes: Any
) -> None:
    (result,) = evaluate(str(make_task()), "most-common", changes=changes, out=tmp_path)
    record = read_record(result.folder)
    assert record.identity.task.output["max_new_tokens"] == 3
    assert record.changes.task == {"output.max_new_tokens": 3}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"shots": None}, "shots"),
        ({"shots": 2.5}, "shots"),
        ({"shots": "four"}, "--shots takes integers"),
        ({"limit": 0}, "limit"),
        ({"limit": "ten"}, "limit"),
        ({"trials": -1}, "trials"),
        ({"seed": "x"}, "seed"),
        ({"fit": "maybe"}, "fit"),
        ({"ablate": "colours"}, "unknown ablation"),
        ({"protocol": "none"}, "squares has no protocol 'none'"),
        ({"changes": {"tsak": {"split": "x"}}}, "tsak"),
        ({"changes": 5}, "changes"),
        ({"out": 5}, "out"),
    ],
)
def test_a_wrong_argument_is_one_paragraph(
    make_task: MakeTask, tmp_path: Path, wrong: dict[str, Any], says: str
) -> None:
    with pytest.raises(UserError, match=says):
        evaluate(str(make_task()), "most-common", **{"out": tmp_path, **wrong})


@pytest.mark.parametrize("model", [None, 5, object(), dict])
def test_what_is_no_model(make_task: MakeTask, model: Any) -> None:
    with pytest.raises(ConfigError, match="a model must be"):
        evaluate(str(make_task()), model)


@pytest.mark.parametrize("task", [None, 5, object()])
def test_what_is_no_task(task: Any) -> None:
    with pytest.raises(ConfigError, match="a task must be"):
        evaluate(task, "most-common")
