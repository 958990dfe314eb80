"""A question that is asked first, such as Emu1's on VizWiz, and may settle the answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from emu2eval import evaluate
from emu2eval.adapters.base import Adapter, Limits
from emu2eval.engine.results import Result
from emu2eval.errors import ConfigError, PlanError, UnknownName
from emu2eval.prompts import check_first
from emu2eval.report.notes import notes
from emu2eval.spec.task import FirstSpec
from emu2eval.types import ChoiceOutput, Request, Response

from ..tasks.layouts import vizwiz

EASY = {"task": {"demonstrations": {"chooser": "random", "options": {}}}}


class Answering(Adapter):
    """Knows the answers to the images with even numbers; remembers what it was asked."""

    limits = Limits(frozenset({"text", "choice"}), batch=3)

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def answer(self, requests: Any) -> list[Response]:
        return [self._one(request) for request in requests]

    def _one(self, request: Request) -> Response:
        *_, image = request.prompt.images()
        number = int("".join(filter(str.isdigit, image.name)))
        asked = "".join(part for part in request.prompt.query if isinstance(part, str))
        self.asked.append((asked, number))
        if not isinstance(request.output, ChoiceOutput):
            return Response(text="a box. It")
        assert request.output.choices == ("yes.", "no.")
        if number % 5 == 3:
            return Response(error="too dark")
        return Response(log_probs=(-1.0, -2.0) if number % 2 == 0 else (-2.0, -1.0))


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vizwiz.write(tmp_path)
    monkeypatch.setenv("EMU2EVAL_DATA", str(tmp_path))


def run(model: Adapter, tmp_path: Path) -> list[Result]:
    return evaluate(
        "vizwiz", model, shots=[0, 2], protocol="emu2", changes=EASY, out=tmp_path / "runs"
    )


def test_what_is_not_known_is_unanswerable_and_not_asked(tmp_path: Path) -> None:
    model = Answering()
    for result in run(model, tmp_path):
        lines = (result.folder / "responses.jsonl").read_text().splitlines()
        rows = {row["id"]: row for row in map(json.loads, lines)}
        for name, row in rows.items():
            number = int("".join(filter(str.isdigit, name)))
            if number % 5 == 3:
                assert row["error"] == "first question: too dark"
            elif number % 2:
                assert (row["text"], row["raw"]) == ("unanswerable", "no.")
            else:
                assert row["text"] == "a box. It".partition(". ")[0]
        settled = sum(row.get("text") == "unanswerable" for row in rows.values())
        assert settled
        assert any("first question" in note for note in notes(result.rows[0]))
    firsts = [text for text, _ in model.asked if "is the answer known?" in text]
    assert firsts and all(text.startswith("based on the picture, ") for text in firsts)
    others = {number for text, number in model.asked if "short answer:" in text}
    assert others and all(number % 2 == 0 and number % 5 != 3 for number in others)
    # Nothing that has an answer is asked again.
    before = len(model.asked)
    run(model, tmp_path)
    assert all(number % 5 == 3 for _, number in model.asked[before:])


def test_a_model_that_ranks_nothing_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    class Writing(Answering):
        limits = Limits(frozenset({"text"}))

    with pytest.raises(PlanError, match="needs choice"):
        run(Writing(), tmp_path)


def spec(answers: dict[str, str]) -> FirstSpec:
    return FirstSpec(ask="?", choices=("yes", "no"), answers=answers)


def test_a_first_question_must_leave_a_way_to_the_query() -> None:
    check_first(spec({"no": "unanswerable"}), "here")
    with pytest.raises(ConfigError, match="one of them without an answer"):
        check_first(spec({"no": "a", "yes": "b"}), "here")
    with pytest.raises(UnknownName, match="nay"):
        check_first(spec({"nay": "a"}), "here")
