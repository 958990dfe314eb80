"""--fit: prompts that are too long lose their farthest demonstrations, and what is stored says so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from emu2eval import Adapter, Limits, Request, Response, evaluate
from emu2eval.engine.evaluation import plans
from emu2eval.engine.options import RunOptions
from emu2eval.engine.reopen import reopen
from emu2eval.errors import PlanError
from emu2eval.runs.record import read_record
from emu2eval.runs.store import RunStore

MakeTask = Callable[..., Path]
MakeModel = Callable[..., Path]

# A demonstration takes 8 positions: an image, six words of the question, the answer. A query takes 7.
EACH, QUERY = 8, 7


def test_as_many_as_fit_are_shown_and_the_nearest_stay(
    make_task: MakeTask, make_model: MakeModel, tmp_path: Path
) -> None:
    task = str(make_task())
    out = tmp_path / "runs"
    short = str(make_model(positions=QUERY + 3 * EACH, default="red"))
    with pytest.raises(PlanError, match="the prompt needs"):
        evaluate(task, short, shots=8, out=out)
    (result,) = evaluate(task, short, shots=8, fit=True, out=out)
    (whole,) = evaluate(task, str(make_model("roomy", default="red")), shots=8, out=out)
    row = result.rows[0]
    assert (row.shots.count, row.shortened, row.n) == (8, 12, 12)
    assert read_record(result.folder).identity.fit == QUERY + 3 * EACH
    every = {answer.id: answer for answer in RunStore(whole.folder).answers()}
    for answer in RunStore(result.folder).answers():
        assert (len(answer.examples), answer.left_out) == (3, 5)
        assert answer.examples == every[answer.id].examples[5:]
        # Each shows one image, and so does the query.
        assert answer.shown == every[answer.id].shown[5:]


def test_what_fits_is_left_alone(
    make_task: MakeTask, make_model: MakeModel, tmp_path: Path
) -> None:
    model = str(make_model(positions=QUERY + 8 * EACH, default="red"))
    (result,) = evaluate(str(make_task()), model, shots=8, fit=True, out=tmp_path)
    assert result.rows[0].shortened == 0
    assert all(len(answer.examples) == 8 for answer in RunStore(result.folder).answers())


def test_a_query_that_does_not_fit_by_itself_is_refused(
    make_task: MakeTask, make_model: MakeModel, tmp_path: Path
) -> None:
    model = str(make_model(positions=QUERY - 1))
    with pytest.raises(PlanError, match="has 6") as error:
        evaluate(str(make_task()), model, shots=2, fit=True, out=tmp_path)
    assert "fewer shots" not in str(error.value.hint)


def test_a_model_that_counts_no_positions_is_told(make_task: MakeTask, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="cannot count the positions"):
        evaluate(str(make_task()), "most-common", shots=2, fit=True, out=tmp_path)


def test_a_stored_prompt_is_shown_as_it_was(
    make_task: MakeTask, make_model: MakeModel, tmp_path: Path
) -> None:
    model = str(make_model(positions=QUERY + 2 * EACH, default="red"))
    (result,) = evaluate(str(make_task()), model, shots=4, fit=True, out=tmp_path)
    run = reopen(result.folder, demonstrations=True)
    assert run.prompts is not None
    with run.index() as store:
        for place in run.questions:
            answer = store.stored(run.questions.slot(place))
            assert answer is not None
            shown = run.prompts.at(place, left_out=answer.left_out)
            assert tuple(d.sample.id for d in shown.demonstrations) == answer.examples
            assert len(shown.prompt.turns) == 2


class Counting(Adapter):
    """Counts how often it is asked for the length of each prompt."""

    def __init__(self) -> None:
        self.limits = Limits(frozenset({"text"}), positions=10**6, batch=4)
        self.counted: list[str] = []

    def positions(self, request: Request) -> int:
        self.counted.append(request.key)
        return 1

    def answer(self, requests: Sequence[Request]) -> list[Response]:
        return [Response(text="red") for _ in requests]


def test_prompts_are_checked_ahead_of_asking_and_not_all_at_first(
    make_task: MakeTask, tmp_path: Path
) -> None:
    model, task = Counting(), str(make_task(queries=200, pool=5))
    ((plan,),) = plans([task], [model], RunOptions.of(shots=1))
    plan.check_first()
    assert len(set(model.counted)) == 64
    first, model.counted[:] = [], []

    class Watching(Counting):
        def answer(self, requests: Sequence[Request]) -> list[Response]:
            first.append(len(set(self.counted)))
            return super().answer(requests)

    (result,) = evaluate(task, Watching(), shots=1, out=tmp_path)
    assert result.rows[0].n == 200
    # The first batch is asked when one window is planned, not the whole run.
    assert first[0] == 64 < first[-1] == 200
