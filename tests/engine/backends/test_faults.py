"""Many replicas and many faults, by a simulated clock; and real processes that are killed at random."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from emu2eval.engine.asked import Asked
from emu2eval.engine.backends import threaded
from emu2eval.engine.backends.base import Answers, Batch, Ended
from emu2eval.engine.backends.pool import Placing, Replicas, Tell
from emu2eval.engine.cutting import WINDOW
from emu2eval.engine.plan import Plan
from emu2eval.types import Prompt, Request, Response, TextOutput

from .processes import Processes
from .simulated import IDENTITY, Simulated
from .test_pool import Device, Local, asked, plan_of

REQUEST = Request("ab" * 32, Prompt(("what?",)), TextOutput())


def pool_of(site: Any, count: int) -> Replicas:
    tell = Tell(lambda: None, lambda state: None, lambda text: None)
    return Replicas(lambda: Placing(site, count), lambda: IDENTITY, tell)


def dealt(site: Simulated, count: int, batches: int, size: int = 4) -> dict[int, Response]:
    """What became of each slot; every batch ends once, every slot is answered once."""
    pool = pool_of(site, count)
    pool.load()
    pool.begin()
    coming = [
        Batch(n, tuple(Asked(n * size + i, REQUEST) for i in range(size))) for n in range(batches)
    ]
    ended: Counter[int] = Counter()
    found: dict[int, Response] = {}
    left = list(reversed(coming))
    while left or len(ended) < batches:
        while left and pool.room(size):
            pool.submit(left.pop())
        event = pool.wait()
        if isinstance(event, Answers):
            for slot, response, _ in event.answered:
                assert slot not in found
                assert slot // size == event.batch and event.batch not in ended
                found[slot] = response
        elif isinstance(event, Ended):
            ended[event.batch] += 1
    assert set(ended.values()) == {1}
    assert sorted(found) == list(range(batches * size))
    return found


@pytest.mark.parametrize("seed", range(40))
def test_slow_and_fast_ones_end_within_a_batch_of_the_ideal(seed: int) -> None:
    draw = random.Random(seed)
    count, batches = draw.randint(2, 8), draw.randint(1, 120)
    seconds = [draw.choice((0.2, 1.0, 1.0, 5.0)) * draw.uniform(0.8, 1.2) for _ in range(count)]
    site = Simulated(seconds.__getitem__)
    dealt(site, count, batches)
    ideal = batches / sum(1 / each for each in seconds)
    assert site.now <= ideal + max(seconds) + 1e-9
    assert site.deepest <= 2
    assert len(site.begun) == batches * 4  # what is taken over was not begun
    # Until there is not enough for all, each has its next batch at hand when it ends one.
    assert min(site.idle) >= 4 * (batches - 2 * count)


@pytest.mark.parametrize("seed", range(60))
def test_whatever_dies_each_is_answered_once(seed: int) -> None:
    """And no more is asked again than what was under way."""
    draw = random.Random(seed)
    count, batches = draw.randint(1, 6), draw.randint(1, 60)
    site = Simulated(lambda n: 0.5 + (n * 7 % 5) / 2, loading=draw.choice((0.0, 3.0)))

    def strike() -> None:
        up = [process for process in site.started if process.queue and not process.dead]
        if up:
            site.kill(draw.choice(up))

    for _ in range(draw.randint(1, 5)):
        site.at(draw.uniform(0, batches / count), strike)
    found = dealt(site, count, batches)
    assert len(site.begun) <= batches * 4 + site.lost
    times = Counter(site.begun)
    unlucky = {slot for slot, response in found.items() if response.error is not None}
    assert all(times[slot] == 3 for slot in unlucky)  # what ends three replicas is taken to be why


@pytest.mark.parametrize("seed", range(30))
def test_requests_that_kill_cost_no_others(seed: int) -> None:
    draw = random.Random(seed)
    count, batches = draw.randint(1, 4), draw.randint(2, 20)
    deadly = frozenset(draw.sample(range(batches * 4), draw.randint(1, 3)))
    site = Simulated(lambda n: draw.uniform(0.5, 2.0), deadly=deadly)
    found = dealt(site, count, batches)
    assert {slot for slot, response in found.items() if response.error is not None} == deadly
    assert len(site.started) <= count + 3 * len(deadly)


def test_no_more_is_planned_than_is_under_way_and_looked_at(
    make_task: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(make_task(queries=150, images=8), Device(batch=2))
    planned, stored, most = 0, 0, 0
    between = [0]
    """Requests that were planned between two batches that were handed out."""
    own, submit = Plan.at, Replicas.submit

    def at(self: Plan, place: Any) -> Any:
        nonlocal planned, most
        planned += 1
        most = max(most, planned - stored)
        between[-1] += 1
        return own(self, place)

    def handed_out(self: Replicas, batch: Batch) -> None:
        between.append(0)
        submit(self, batch)

    def settled(count: int) -> None:
        nonlocal stored
        stored += count

    monkeypatch.setattr(Plan, "at", at)
    monkeypatch.setattr(Replicas, "submit", handed_out)
    pool = pool_of(Simulated(lambda n: 1.0 + n), 3)
    tally, _ = asked(plan, tmp_path / "run", pool, progress=settled)
    assert tally.asked == planned == 150
    assert 2 * WINDOW < most <= 2 * (WINDOW + 1 + 2 * 3)
    # After the first window, a batch is planned for each that is handed out: a window at once would take
    # longer than those that are under way.
    assert max(between[1:]) <= 2


def test_a_device_here_has_its_next_batch_at_hand(
    make_task: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a batch is answered, the next is planned and handed over."""
    inboxes: list[Any] = []
    own = threaded._Inbox.take

    def take(self: Any) -> Batch | None:
        inboxes[:] = [self]
        return own(self)

    class Waiting(Device):
        """Answers only once another batch waits, but for the last."""

        without = asked = 0

        def answer(self, requests: Sequence[Request]) -> list[Response]:
            self.asked += 1
            until = time.monotonic() + 20
            while self.asked < 15 and not len(inboxes[0]):
                if time.monotonic() > until:
                    self.without += 1
                    break
                time.sleep(0.0005)
            return super().answer(requests)

    monkeypatch.setattr(threaded._Inbox, "take", take)
    device = Waiting()
    asked(plan_of(make_task(queries=60, images=8), device), tmp_path / "run")
    assert (device.asked, device.without) == (15, 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_real_processes_are_killed_at_random(make_task: Any, tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    count = draw.randint(1, 4)
    log = tmp_path / "log"
    log.touch()
    plan = plan_of(make_task(queries=120), Device())
    _, local = asked(plan, tmp_path / "local")
    site = Processes(lambda _: Local(Device(draw.uniform(0.002, 0.01), log=log), IDENTITY))
    pool = pool_of(site, count)
    kills = sorted(draw.sample(range(5, 110), draw.randint(1, 4)))
    done = 0

    def settled(more: int) -> None:
        nonlocal done
        done += more
        if kills and done > kills[0]:
            kills.pop(0)
            up = [child for child in site.started if not child.dead and child.process.is_alive()]
            if up:
                os.kill(draw.choice(up).process.pid or 0, signal.SIGKILL)

    killed = len(kills)
    try:
        tally, found = asked(plan, tmp_path / "run", pool, progress=settled)
    finally:
        pool.close()
    assert (tally.asked, tally.failed) == (120, 0)
    # A batch that was hit twice is asked one by one, and its last bits tell.
    apart = [key for key in local if found[key] != local[key]]
    assert len(apart) <= 4 * (killed // 2)
    assert {key: value[0][:4] for key, value in found.items()} == {
        key: value[0][:4] for key, value in local.items()
    }
    keys = [line.split()[1] for line in log.read_text().splitlines()]
    assert len(set(keys)) == 120 and len(keys) <= 120 + killed * 2 * 4
