"""Items that are taken one by one, asked for at once, and given back as they come."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from emu2eval.adapters.base import Cost
from emu2eval.adapters.openai import background
from emu2eval.adapters.openai.background import Background
from emu2eval.adapters.openai.pace import BudgetReached, Pace


@pytest.fixture
def loop() -> Iterator[Background]:
    found = Background()
    yield found
    found.close(asyncio.sleep(0))


def test_every_item_comes_back_and_few_are_taken_ahead(
    loop: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "AHEAD", 4)
    pace, most, running = Pace(3), 0, 0
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(200):
            taken.append(item)
            yield item

    async def ask(item: int) -> int:
        nonlocal running, most
        async with pace.turn(0):
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.0001 * (item % 5))
            running -= 1
        return item

    came = []
    for found in loop.each(items(), ask, pace):
        came.append(found)
        assert len(taken) - len(came) <= 4 + 3 + 2  # ahead, under way, on the way here and there
    assert sorted(came) == list(range(200))
    assert most == 3


def test_those_that_rest_are_bounded(loop: Background, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "RESTING", 2)
    pace, begun, ended = Pace(2), 0, 0

    async def ask(item: int) -> int:
        nonlocal begun, ended
        begun += 1
        assert begun - ended <= 4
        async with pace.turn(0):
            pass
        await asyncio.sleep(0.001)  # before it asks again, without a place
        ended += 1
        return item

    assert sorted(loop.each(range(40), ask, pace)) == list(range(40))


def test_what_the_items_raise_comes_after_what_was_under_way(loop: Background) -> None:
    pace = Pace(2)

    def items() -> Iterator[int]:
        yield from range(3)
        raise ZeroDivisionError

    async def ask(item: int) -> int:
        async with pace.turn(0):
            await asyncio.sleep(0.01)
        return item

    came = []
    with pytest.raises(ZeroDivisionError):
        for found in loop.each(items(), ask, pace):
            came.append(found)
    assert came == [0, 1, 2]


@pytest.mark.parametrize("fatal", [True, False])
def test_a_failure_ends_the_others_unless_only_the_budget_is_reached(
    loop: Background, fatal: bool
) -> None:
    pace = Pace(4)
    error = ZeroDivisionError() if fatal else BudgetReached("requests", 5, Cost())

    async def ask(item: int) -> int:
        async with pace.turn(0):
            if item == 5:
                raise error
            await asyncio.sleep(60 if fatal and item > 5 else 0.01)
        return item

    came = []
    with pytest.raises(type(error)):
        for found in loop.each(range(1000), ask, pace):
            came.append(found)
    assert set(came) >= {0, 1, 2, 3}
    assert len(came) < 12


def test_a_caller_who_leaves_ends_all(loop: Background) -> None:
    pace, begun, ended = Pace(4), [], []

    async def ask(item: int) -> int:
        begun.append(item)
        try:
            async with pace.turn(0):
                await asyncio.sleep(0 if item == 0 else 60)
        finally:
            ended.append(item)
        return item

    results = loop.each(range(100), ask, pace)
    assert next(results) == 0
    results.close()
    for _ in range(100):
        loop.run(asyncio.sleep(0.01))
        if len(ended) == len(begun):
            break
    assert sorted(ended) == sorted(begun)
    assert list(loop.each(range(3), ask_at_once, pace)) == [0, 1, 2]  # every place is free again


async def ask_at_once(item: int) -> int:
    return item
