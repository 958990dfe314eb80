"""Reading ahead: in order, on threads of its own, and without any say in the answers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from emu2eval.adapters.base import Adapter, Limits
from emu2eval.engine.ahead import Ahead
from emu2eval.engine.cutting import WINDOW
from emu2eval.engine.evaluation import plans
from emu2eval.engine.options import RunOptions
from emu2eval.engine.runner import execute
from emu2eval.runs.store import RunStore
from emu2eval.types import Prompt, Request, Response, TextOutput

SEEN: list[tuple[str, str]] = []


class Looking(Adapter):
    """Notes what is prepared and what is answered; what it prepares fails half of the time."""

    def __init__(self) -> None:
        self.limits = Limits(frozenset({"text"}), batch=2)

    def prepare(self, request: Request) -> None:
        SEEN.append(("prepared", request.key))
        assert threading.current_thread() is not threading.main_thread()
        if int(request.key, 16) % 2:
            raise OSError("not now")

    def answer(self, requests: Sequence[Request]) -> list[Response]:
        SEEN.extend(("answered", request.key) for request in requests)
        return [Response(text="red") for _ in requests]


def test_each_request_is_prepared_once(make_task: Callable[..., Path], tmp_path: Path) -> None:
    task = make_task(queries=12)
    ((plan,),) = plans([str(task)], ["most-common"], RunOptions())
    object.__setattr__(plan, "adapter", Looking())
    SEEN.clear()
    with RunStore(tmp_path / "run").open_for_writing() as store:
        store.index(plan.questions.slot_of, plan.questions.slots)
        tally = execute(plan, store)
    assert (tally.asked, tally.failed) == (12, 0)
    prepared = [key for what, key in SEEN if what == "prepared"]
    answered = [key for what, key in SEEN if what == "answered"]
    assert len(answered) == 12
    # The first batch has nothing before it; what was not begun in time is dropped.
    assert len(prepared) == len(set(prepared)) <= 10
    assert set(prepared) <= set(answered[2:])
    assert prepared


class Waiting(Looking):
    """Answers the last of its first window only once something else has been prepared."""

    def __init__(self) -> None:
        self.limits = Limits(frozenset({"text"}), batch=1)
        self.answered = 0
        self.begun = threading.Event()

    def prepare(self, request: Request) -> None:
        if self.answered >= WINDOW - 1:
            self.begun.set()

    def answer(self, requests: Sequence[Request]) -> list[Response]:
        self.answered += 1
        assert self.answered != WINDOW or self.begun.wait(10)
        return [Response(text="red") for _ in requests]


def test_the_next_window_is_begun_during_the_last_batch_of_this_one(
    make_task: Callable[..., Path], tmp_path: Path
) -> None:
    ((plan,),) = plans([str(make_task(queries=WINDOW + 2))], ["most-common"], RunOptions())
    adapter = Waiting()
    object.__setattr__(plan, "adapter", adapter)
    with RunStore(tmp_path / "run").open_for_writing() as store:
        store.index(plan.questions.slot_of, plan.questions.slots)
        tally = execute(plan, store)
    assert (tally.asked, tally.failed) == (WINDOW + 2, 0)


def test_as_many_threads_as_cores_or_as_the_model_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """With batches of one, too, each has something to do."""
    monkeypatch.setattr("emu2eval.engine.ahead.cores", lambda: 5)
    adapter = Looking()
    ahead = Ahead(adapter)
    assert (ahead.threads, ahead.batches(1), ahead.batches(4), ahead.batches(8)) == (5, 6, 3, 2)
    ahead.close()
    adapter.workers = 3
    ahead = Ahead(adapter)
    assert ahead.threads == 3
    ahead.close()


def test_no_thread_for_an_adapter_without_preparations() -> None:
    class Plain(Looking):
        prepare = Adapter.prepare

    before = threading.active_count()
    asked = Request("00", Prompt(query=("a",)), TextOutput())
    ahead = Ahead(Plain())
    ahead.prepare([asked])
    assert threading.active_count() == before
    assert ahead.batches(1) == 2
    ahead.close()
    SEEN.clear()
    ahead = Ahead(Looking())
    ahead.prepare([asked])
    ahead.close()
    assert [what for what, _ in SEEN] in (["prepared"], [])
