"""Functions, adapters and an Emu2 in memory are models; what is stated decides what is asked again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from emu2eval import Adapter, Image, InMemory, Limits, Prompt, Response, evaluate
from emu2eval.adapters import function
from emu2eval.errors import UserError
from emu2eval.exports.experiment import written
from emu2eval.runs.record import read_record
from emu2eval.testing import small_task, square
from emu2eval.watch import Watcher


class Notes(Watcher):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def last_reply(prompt: Prompt) -> str:
    """The reply of the nearest demonstration."""
    return str(prompt.turns[-1].reply[0]) if prompt.turns else ""


def test_a_function_is_a_model(tmp_path: Path) -> None:
    task, notes = small_task(tmp_path), Notes()
    none, four = evaluate(task, last_reply, shots=[0, 4], out=tmp_path, watcher=notes)
    assert (none.rows[0].model, none.rows[0].value) == ("last_reply", 0)
    assert four.rows[0].unscored == 0
    assert notes.said[0].startswith("the answers of last_reply cannot be reused")
    (again,) = evaluate(task, last_reply, out=tmp_path)
    assert again.tally.asked == 0
    with pytest.raises(UserError, match="a Python object, which a file cannot refer to"):
        written([again.folder])


@pytest.mark.parametrize(
    ("reply", "value", "unscored"),
    [
        ("red", 20, 0),
        (Response(text="red"), 20, 0),
        (Response(error="not today"), None, 5),
        (None, None, 5),
        (3, None, 5),
    ],
)
def test_what_a_function_may_return(
    reply: Any, value: float | None, unscored: int, tmp_path: Path
) -> None:
    (made,) = evaluate(small_task(tmp_path), lambda prompt: reply, out=tmp_path)
    row = made.rows[0]
    assert (row.model, row.value, row.unscored) == ("function", value, unscored)


@pytest.mark.parametrize("pillow", [False, True])
def test_a_function_draws(pillow: bool, tmp_path: Path) -> None:
    def paints(prompt: Prompt) -> Any:
        from emu2eval import images

        drawn: Image = square("red")
        return images.load(drawn) if pillow else drawn

    (made,) = evaluate(small_task(tmp_path, draw=True), paints, out=tmp_path)
    assert made.rows[0].unscored == 0


def test_a_fault_in_a_function_costs_one_answer(tmp_path: Path) -> None:
    def fails(prompt: Prompt) -> str:
        if "square 3?" in str(prompt.query):
            raise ValueError("no squares of three")
        return "red"

    (made,) = evaluate(small_task(tmp_path), fails, out=tmp_path)
    assert (made.rows[0].n, made.rows[0].unscored) == (4, 1)
    assert "no squares of three" in str(made.why)


class Says(Adapter):
    def __init__(self, word: str):
        self.limits = Limits(frozenset({"text"}))
        self.word = word

    def answer(self, requests: Any) -> list[Response]:
        return [Response(text=self.word) for _ in requests]


@pytest.mark.parametrize("make", [lambda: lambda prompt: "red", lambda: Says("red")])
def test_a_version_makes_answers_last(make: Any, tmp_path: Path) -> None:
    task, notes = small_task(tmp_path), Notes()

    def asked(version: str | None) -> int:
        function._tokens.clear()  # as in another process
        (made,) = evaluate(task, make(), name="mine", version=version, out=tmp_path, watcher=notes)
        assert made.rows[0].model == "mine"
        return made.tally.asked

    assert [asked(v) for v in ("1", "1", "2", "2", "1")] == [5, 0, 5, 0, 0]
    assert notes.said == []
    assert [asked(None), asked(None)] == [5, 5]
    assert len(notes.said) == 2


def test_an_emu2_in_memory_answers_as_its_checkpoint(tmp_path: Path) -> None:
    from emu2eval.adapters.emu2.checkpoint import load_model, open_checkpoint
    from emu2eval.spec.model import load_model as load_spec

    settings = dict(load_spec("emu2-nano").settings)
    folder = Path(settings.pop("checkpoint"))
    model = load_model(open_checkpoint(folder), dtype=torch.float32).train()
    task = small_task(tmp_path, queries=2)
    wanted: Any = {"shots": 1, "out": tmp_path, "changes": ["task.output.max_new_tokens=2"]}
    (of_files,) = evaluate(task, "emu2-nano", **wanted)
    (made,) = evaluate(task, InMemory(model, folder, name="mine", settings=settings), **wanted)
    answers = [(run.folder / "scores.jsonl").read_bytes() for run in (of_files, made)]
    assert answers[0] == answers[1]
    assert model.training and read_record(made.folder).model.name == "mine"
    with pytest.raises(UserError, match="no tokenizer was given"):
        evaluate(task, model, **wanted)


def test_what_belongs_to_one_object_is_not_said_of_others(tmp_path: Path) -> None:
    for given in ("most-common", [last_reply, last_reply], InMemory(last_reply)):
        with pytest.raises(UserError, match="apply only to a single model given as an object"):
            evaluate(small_task(tmp_path), given, name="mine", out=tmp_path)
