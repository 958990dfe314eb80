"""Replicas in real processes: the same answers however many there are, and whatever becomes of them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emu2eval.adapters.base import Adapter, Limits
from emu2eval.engine.backends.base import Batch
from emu2eval.engine.backends.pool import Placing, Replicas, Tell
from emu2eval.engine.backends.replica import Replica, ReplicaReport
from emu2eval.engine.dealing import PartCutting, deal_of
from emu2eval.engine.evaluation import plans
from emu2eval.engine.options import RunOptions
from emu2eval.engine.plan import Plan
from emu2eval.engine.runner import Tally, batch_size, execute
from emu2eval.errors import ImageError, ModelError, ModelGone
from emu2eval.runs.parts import RunPart
from emu2eval.runs.record import ModelIdentity
from emu2eval.runs.store import RunStore
from emu2eval.types import Request, Response
from emu2eval.watch import ReplicasState

from .processes import Processes

IDENTITY = ModelIdentity(adapter="device", settings={}, files={"weights": "ab"})


class Device(Adapter):
    """Takes `seconds` for a batch, whose answers depend on all of it, as a real one's last bits do."""

    def __init__(self, seconds: float = 0.0, batch: int = 4, log: Path | None = None):
        self.limits = Limits(frozenset({"text", "choice"}), batch=batch)
        self.seconds = seconds
        self.log = log
        self.deadly: tuple[str, ...] = ()

    def positions(self, request: Request) -> int:
        return int(request.key[:2], 16)

    def answer(self, requests: Sequence[Request]) -> list[Response]:
        time.sleep(self.seconds)
        together = sum(int(request.key[:8], 16) for request in requests) % 997
        if self.log is not None:
            with self.log.open("a") as log:
                log.write("".join(f"{os.getpid()} {request.key}\n" for request in requests))
        for request in requests:
            text = "".join(part for part in request.prompt.query if isinstance(part, str))
            if any(f"{each}?" in text for each in self.deadly):
                os.kill(os.getpid(), signal.SIGKILL)
        return [
            Response(log_probs=(-1.0 - together / 1e6, -2.0))
            if request.output.kind == "choice"
            else Response(text=f"{request.key[:4]} {together}")
            for request in requests
        ]


class Local(Replica):
    """A replica of an adapter that is made in its process."""

    def __init__(self, adapter: Adapter, identity: ModelIdentity = IDENTITY, host: str = "here"):
        super().__init__(None)  # type: ignore[arg-type]
        self._adapter = adapter
        self._report = ReplicaReport(
            host=host,
            process=os.getpid(),
            devices={"CPU": 1},
            identity=identity,
            versions={"emu2eval": __import__("emu2eval").__version__},
        )

    def load(self) -> ReplicaReport:
        self._report = ReplicaReport(
            host=self._report.host,
            process=os.getpid(),
            devices={"CPU": 1},
            identity=self._report.identity,
            versions=self._report.versions,
        )
        return self._report


class Told:
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.states: list[ReplicasState] = []
        self.tell = Tell(lambda: None, self.states.append, self.notes.append)


@pytest.fixture
def pools() -> Iterator[Callable[..., tuple[Replicas, Processes, Told]]]:
    made: list[Replicas] = []

    def make(
        make_replica: Callable[[int], Any], count: int = 2, **given: Any
    ) -> tuple[Replicas, Processes, Told]:
        told, site = Told(), Processes(make_replica)
        pool = Replicas(lambda: Placing(site, count), lambda: IDENTITY, told.tell, **given)
        made.append(pool)
        return pool, site, told

    yield make
    for pool in made:
        pool.close()


CHOICE = {"output": {"kind": "choice", "choices": ["red", "green"]}, "score": {"scorer": "choice"}}


def plan_of(task: Path, adapter: Adapter, trials: int = 1) -> Plan:
    ((plan,),) = plans([str(task)], ["most-common"], RunOptions(trials=trials, shots=("2",)))
    object.__setattr__(plan, "adapter", adapter)
    return plan


def asked(
    plan: Plan, folder: Path, backend: Replicas | None = None, **given: Any
) -> tuple[Tally, dict[tuple[str, int], Any]]:
    """The tally, and every answer that is stored."""
    with RunStore(folder).open_for_writing() as store:
        store.index(plan.questions.slot_of, plan.questions.slots)
        tally = execute(plan, store, backend, **given)
        found = {
            (a.id, a.trial): (a.log_probs if a.log_probs is not None else a.text, a.error)
            for a in store.answers()
        }
        assert len(list(store.answers())) == len(found), "a row is stored once"
    return tally, found


@pytest.mark.parametrize("task", [{}, CHOICE])
def test_the_same_bits_for_any_number_of_replicas(
    make_task: Any, pools: Any, tmp_path: Path, task: dict[str, Any]
) -> None:
    plan = plan_of(make_task(queries=150, **task), Device())
    _, local = asked(plan, tmp_path / "local")
    assert len(local) == 150
    for count in (1, 2, 3):
        pool, _, _ = pools(lambda _: Local(Device(0.001)), count)
        tally, found = asked(plan, tmp_path / f"{count}", pool)
        assert (tally.asked, found) == (150, local)


def test_a_run_that_was_killed_has_the_same_bits(make_task: Any, tmp_path: Path) -> None:
    """Of a ranking, a batch that was broken off is asked whole again, and what was there stays."""
    plan = plan_of(make_task(queries=150, **CHOICE), Device())
    _, whole = asked(plan, tmp_path / "whole")
    lines = (tmp_path / "whole" / "responses.jsonl").read_bytes().splitlines(keepends=True)
    broken = tmp_path / "broken"
    broken.mkdir()
    # Batches 0, 1, 5 and half of 7 of the first window, and a batch of the last.
    kept = [*lines[:8], *lines[20:24], *lines[28:30], *lines[140:144]]
    (broken / "responses.jsonl").write_bytes(b"".join(kept))
    tally, found = asked(plan, broken)
    assert found == whole
    assert (tally.kept, tally.asked) == (len(kept), 150 - len(kept) + 2)
    again, _ = asked(plan, broken)
    assert (again.asked, again.kept) == (0, 150)


def test_what_is_missing_elsewhere_is_packed_together(make_task: Any, tmp_path: Path) -> None:
    """Where a store was asked in other batches, nothing is asked twice."""
    calls: list[int] = []

    class Counting(Device):
        def answer(self, requests: Sequence[Request]) -> list[Response]:
            calls.append(len(requests))
            return super().answer(requests)

    plan = plan_of(make_task(queries=64, **CHOICE), Counting())
    asked(plan, tmp_path / "run")
    path = tmp_path / "run" / "responses.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[::2]))
    calls.clear()
    tally, found = asked(plan, tmp_path / "run", exact=False)
    assert (tally.asked, tally.kept, len(found)) == (32, 32, 64)
    assert calls == [4] * 8


def test_a_replica_that_is_killed_costs_what_it_was_busy_with(
    make_task: Any, pools: Any, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    plan = plan_of(make_task(queries=200), Device(batch=4))
    _, local = asked(plan, tmp_path / "local")
    pool, site, told = pools(lambda _: Local(Device(0.01, log=log)), 2)
    killed: list[int] = []

    def settled(count: int) -> None:
        if not killed and log.read_text().count("\n") > 60:
            killed.append(int(log.read_text().split()[0]))
            os.kill(killed[0], signal.SIGKILL)

    tally, found = asked(plan, tmp_path / "run", pool, progress=settled)
    assert killed and found == local and tally.failed == 0
    assert tally.asked == 200
    twice = len(log.read_text().splitlines()) - len(
        {line.split()[1] for line in log.read_text().splitlines()}
    )
    assert twice <= 8  # what was in flight
    assert len(site.started) == 3
    (line,) = told.notes
    assert line.startswith("replica ") and "was lost (killed)" in line
    assert [state.up for state in told.states][-1] in (1, 2)


class Server(Device):
    """One whose server ends once, in the middle."""

    def answer(self, requests: Sequence[Request]) -> list[Response]:
        assert self.log is not None
        ended = self.log.with_suffix(".ended")
        if self.log.exists() and not ended.exists():
            ended.touch()
            raise ModelGone("vllm stopped (exit code 1)")
        return super().answer(requests)


def test_a_replica_whose_server_ends_is_replaced(
    make_task: Any, pools: Any, tmp_path: Path
) -> None:
    plan = plan_of(make_task(queries=20), Device(batch=4))
    _, local = asked(plan, tmp_path / "local")
    pool, site, told = pools(lambda _: Local(Server(log=tmp_path / "log")), 1)
    tally, found = asked(plan, tmp_path / "run", pool)
    assert found == local and (tally.failed, tally.asked) == (0, 20)
    assert len(site.started) == 2
    assert "was lost (vllm stopped (exit code 1))" in told.notes[0]


def test_a_batch_that_comes_after_an_error_has_it_too(make_task: Any) -> None:
    """It would be waited for, for ten minutes."""
    plan = plan_of(make_task(queries=2), Device())
    replica = Local(Broken())
    for number, planned in enumerate(plan):
        with pytest.raises(ModelError, match="broken"), ThreadPoolExecutor(1) as threads:
            batch = Batch(number, (planned.asked,))
            threads.submit(replica.ask, 1, batch).result(timeout=10)


def deadly(number: int, *squares: int) -> Local:
    device = Device()
    device.deadly = tuple(f"square {each}" for each in squares)
    return Local(device)


def test_a_request_that_kills_is_unscored_and_costs_no_other(
    make_task: Any, pools: Any, tmp_path: Path
) -> None:
    plan = plan_of(make_task(queries=60), Device())
    pool, site, told = pools(lambda number: deadly(number, 17), 2)
    tally, found = asked(plan, tmp_path / "run", pool)
    errors = {name: error for (name, _), (_, error) in found.items() if error is not None}
    assert errors == {"q0017": "each of the 3 replicas that were asked this died"}
    assert (tally.failed, len(found)) == (1, 60)
    # Once more where the batch behind it was taken for the one that kills.
    assert len(told.notes) in (3, 4) and len(site.started) == 2 + len(told.notes)


def test_alone_it_is_told_apart_from_what_waits_behind_it(
    make_task: Any, pools: Any, tmp_path: Path
) -> None:
    plan = plan_of(make_task(queries=40), Device(batch=1))
    pool, _, _ = pools(lambda number: deadly(number, 3, 30), 1)
    tally, found = asked(plan, tmp_path / "run", pool)
    assert {name for (name, _), (_, error) in found.items() if error} == {"q0003", "q0030"}
    assert tally.asked == 40


class Failing(Local):
    def load(self) -> ReplicaReport:
        raise ModelError("the weights are on no disk")


class Dying(Local):
    def load(self) -> ReplicaReport:
        os.kill(os.getpid(), signal.SIGKILL)
        return super().load()


@pytest.mark.parametrize("kind", [Failing, Dying])
def test_a_start_that_fails_once_is_tried_again(
    make_task: Any, pools: Any, tmp_path: Path, kind: type[Local]
) -> None:
    plan = plan_of(make_task(queries=20), Device())
    pool, site, told = pools(lambda n: (kind if n == 0 else Local)(Device()), 1)
    tally, _ = asked(plan, tmp_path / "run", pool)
    assert (tally.asked, len(site.started), told.notes) == (20, 2, [])


def test_one_that_never_starts_is_left_out(make_task: Any, pools: Any, tmp_path: Path) -> None:
    plan = plan_of(make_task(queries=400), Device())
    # Every other start fails, and these are the second replica's.
    pool, _, told = pools(lambda n: (Local if n == 0 else Failing)(Device(0.01)), 2)
    tally, _ = asked(plan, tmp_path / "run", pool)
    assert tally.asked == 400
    assert told.notes == [
        "replica 2 could not be loaded in 3 attempts: the weights are on no disk; the others go on "
        "without it"
    ]
    assert told.states[-1] == ReplicasState(2, 1, 1)


def test_where_none_starts_it_is_an_error(make_task: Any, pools: Any, tmp_path: Path) -> None:
    plan = plan_of(make_task(queries=20), Device())
    pool, site, _ = pools(lambda n: Failing(Device()), 2)
    with pytest.raises(ModelError, match=r"no replica is left; .* the weights are on no disk"):
        asked(plan, tmp_path / "run", pool)
    assert len(site.started) == 6


def test_a_replica_with_other_weights_is_refused_by_name(
    make_task: Any, pools: Any, tmp_path: Path
) -> None:
    plan = plan_of(make_task(queries=300), Device())
    other = ModelIdentity(adapter="device", settings={"dtype": "bfloat16"}, files={"weights": "cd"})
    pool, _, told = pools(
        lambda n: Local(Device(0.01)) if n else Local(Device(), other, host="node7"), 2
    )
    asked(plan, tmp_path / "run", pool)
    assert told.notes == [
        "replica 1 on node7 differs from the run's model: files.weights is cd, not ab; settings.dtype is "
        "bfloat16, not None; the others go on without it"
    ]


def test_one_that_says_nothing_is_lost(make_task: Any, pools: Any, tmp_path: Path) -> None:
    class Stuck(Device):
        def answer(self, requests: Sequence[Request]) -> list[Response]:
            time.sleep(60)
            return []

    plan = plan_of(make_task(queries=60), Device())
    pool, site, told = pools(lambda n: Local(Stuck() if n == 0 else Device(0.001)), 2, patience=0.4)
    tally, found = asked(plan, tmp_path / "run", pool)
    assert (tally.asked, len(found), tally.failed) == (60, 60, 0)
    assert "no answer for" in told.notes[0]
    assert len(site.started) == 3


def test_a_driver_that_was_stopped_for_long_takes_nobody_for_lost(
    make_task: Any, pools: Any, tmp_path: Path
) -> None:
    plan = plan_of(make_task(queries=64), Device())
    pool, site, told = pools(lambda _: Local(Device(0.001)), 3, patience=0.1)
    own: Callable[..., Any] = site.wait
    # As Ray does, one at a time.
    site.wait = lambda calls, timeout: own(calls, timeout)[:1]
    stops = iter([0.0] * 7 + [0.5])
    tally, _ = asked(
        plan, tmp_path / "run", pool, progress=lambda count: time.sleep(next(stops, 0.0))
    )
    assert (tally.asked, told.notes, len(site.started)) == (64, [], 3)


def test_towards_the_end_a_fast_replica_takes_over_what_a_slow_one_has_not_begun(
    make_task: Any, pools: Any, tmp_path: Path
) -> None:
    plan = plan_of(make_task(queries=96), Device(batch=4))
    log = tmp_path / "log"
    pool, _, _ = pools(lambda n: Local(Device(0.2 if n == 0 else 0.04, log=log)), 2)
    tally, _ = asked(plan, tmp_path / "run", pool)
    assert tally.asked == 96
    by = [line.split()[0] for line in log.read_text().splitlines()]
    slow = min(by.count(pid) for pid in set(by))
    # 24 batches at 5 : 1; the last of the slow one ends within a batch of its own after the fast one's.
    assert slow <= 4 * 5


def test_two_runs_follow_each_other(make_task: Any, pools: Any, tmp_path: Path) -> None:
    plan = plan_of(make_task(queries=20), Device())
    pool, site, _ = pools(lambda _: Local(Device()), 2)
    first, second = asked(plan, tmp_path / "a", pool), asked(plan, tmp_path / "b", pool)
    assert first[1] == second[1]
    assert len(site.started) == 2


def test_what_is_in_flight_when_it_is_stopped_is_kept(
    make_task: Any, pools: Any, tmp_path: Path
) -> None:
    plan = plan_of(make_task(queries=400), Device())
    pool, _, _ = pools(lambda _: Local(Device(0.05)), 2)
    seen: list[int] = []

    def settled(count: int) -> None:
        seen.append(count)
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        asked(plan, tmp_path / "run", pool, progress=settled)
    # The third batch was stored before it was told; up to two of each replica were under way.
    assert 3 * 4 < (tmp_path / "run" / "responses.jsonl").read_bytes().count(b"\n") <= 7 * 4


class Broken(Device):
    def answer(self, requests: Sequence[Request]) -> list[Response]:
        time.sleep(self.seconds)
        raise ModelError("the model is broken")


@pytest.mark.parametrize("queries", [4, 20])
def test_an_error_of_the_model_ends_the_run_at_once(
    make_task: Any, pools: Any, tmp_path: Path, queries: int
) -> None:
    plan = plan_of(make_task(queries=queries), Device())
    pool, site, _ = pools(lambda _: Local(Broken()), 1)
    own: Callable[..., Any] = site.wait

    def wait(calls: Sequence[Any], timeout: float | None) -> Sequence[Any]:
        assert calls, "what never comes is waited for"
        found: Sequence[Any] = own(calls, timeout)
        return found

    site.wait = wait
    with pytest.raises(ModelError, match="broken"):
        asked(plan, tmp_path / "run", pool)


def test_what_others_are_at_when_one_has_an_error_is_kept(
    make_task: Any, pools: Any, tmp_path: Path
) -> None:
    plan = plan_of(make_task(queries=60), Device())
    pool, _, _ = pools(lambda n: Local(Broken(0.05) if n == 0 else Device(0.15)), 2)
    with pytest.raises(ModelError, match="broken"):
        asked(plan, tmp_path / "run", pool)
    # What it has not begun is taken back, if that is heard in time.
    assert (tmp_path / "run" / "responses.jsonl").read_bytes().count(b"\n") in (4, 2 * 4)


class Encodes(Device):
    """Never at two calls at once."""

    at_work = 0

    def encode_images(self, images: Sequence[Any]) -> Any:
        assert not self.at_work, "two at once"
        self.at_work += 1
        if "deadly" in images:
            os.kill(os.getpid(), signal.SIGKILL)
        if "broken" in images:
            self.at_work -= 1
            raise ImageError("the image is broken")
        time.sleep(0.05)
        self.at_work -= 1
        return np.full((len(images), 2), len(images), np.float32)


def test_what_kills_whoever_encodes_it_is_an_error(pools: Any) -> None:
    pool, site, _ = pools(lambda _: Local(Encodes()), 2)
    with pytest.raises(ModelError, match="each of the 3 replicas that encoded the same 64 "):
        pool.encode([*["a"] * 64, "deadly", *["b"] * 63])
    assert len(site.started) == 4


def test_an_image_that_cannot_be_encoded_leaves_no_replica_at_work(pools: Any) -> None:
    pool, _, _ = pools(lambda _: Local(Encodes()), 2)
    pool.encode(["a"] * 128)
    for _ in range(2):
        with pytest.raises(ImageError):
            pool.encode([*["a"] * 64, *["broken"] * 64])
        assert pool.encode(["a"] * 65)[:, 0].tolist() == [64.0] * 64 + [1.0]


def test_a_part_can_have_replicas(make_task: Any, pools: Any, tmp_path: Path) -> None:
    plan = plan_of(make_task(queries=60, **CHOICE), Device())
    _, local = asked(plan, tmp_path / "local")
    found: dict[tuple[str, int], Any] = {}
    for number in (1, 2):
        deal = deal_of(plan, RunPart(number, 2), batch_size(plan.adapter), streams=False)
        pool, _, _ = pools(lambda _: Local(Device(0.001)), 2)
        cut = partial(PartCutting, deal=deal, number=number, twin=lambda planned: None)
        tally, part = asked(plan, tmp_path / f"{number}", pool, cut=cut)
        assert 28 <= tally.asked <= 32 and not found.keys() & part.keys()
        found |= part
    assert found == local
