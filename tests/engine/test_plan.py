"""Plans of images: each has noise of its own, which nothing but its identity decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from emu2eval import Adapter, Limits, evaluate
from emu2eval.engine.evaluation import plans
from emu2eval.engine.options import RunOptions
from emu2eval.engine.plan import Plan
from emu2eval.types import ImageOutput, Request, Response
from emu2eval.watch import Watcher

MakeTask = Callable[..., Path]
MakeModel = Callable[..., Path]


def seeds(plan: Plan) -> dict[tuple[str, int], int]:
    found = {}
    for planned in plan:
        assert isinstance(planned.request.output, ImageOutput)
        found[planned.id, planned.trial] = planned.request.output.seed
    return found


def plan_of(task: Path, model: Path, **settings: object) -> Plan:
    chosen = RunOptions.of(**settings)  # type: ignore[arg-type]
    ((plan,),) = plans([str(task)], [str(model)], chosen)
    return plan


def test_each_image_has_noise_of_its_own(make_task: MakeTask, make_model: MakeModel) -> None:
    drawing = {"output": {"kind": "image"}, "score": {"scorer": "drawing"}}
    task, model = make_task(**drawing), make_model()
    whole = seeds(plan_of(task, model, trials=2))
    assert len(set(whole.values())) == len(whole) == 24
    assert all(0 <= seed < 2**31 for seed in whole.values())

    part = seeds(plan_of(task, model, limit=5))
    assert part.items() <= whole.items()
    assert set(seeds(plan_of(task, model, seed=1)).values()).isdisjoint(whole.values())
    other = make_task(output={"kind": "image", "seed": 1}, score=drawing["score"])
    assert set(seeds(plan_of(other, model)).values()).isdisjoint(whole.values())


def test_what_an_adapter_warns_of_is_told_once_a_task(make_task: MakeTask, tmp_path: Path) -> None:
    class Slow(Adapter):
        limits = Limits(frozenset({"text"}))

        def answer(self, requests: Sequence[Request]) -> Sequence[Response]:
            return [Response(text="red")] * len(requests)

        def warning(self, request: Request) -> str | None:
            return "this takes a while"

    told: list[str] = []

    class Listening(Watcher):
        def note(self, text: str) -> None:
            told.append(text)

    evaluate(str(make_task(3)), Slow(), shots=[0, 2], out=tmp_path, watcher=Listening())
    assert [line for line in told if "a while" in line] == ["squares, Slow: this takes a while"]
