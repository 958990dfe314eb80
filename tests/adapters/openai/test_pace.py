"""Rates, back-pressure and waits, without a server."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from emu2eval.adapters.base import Cost
from emu2eval.adapters.openai.client import _retry_after
from emu2eval.adapters.openai.pace import Budget, BudgetReached, Pace, Prices


def entered(pace: Pace, count: int, tokens: int = 0) -> list[float]:
    """When each of so many requests was let through."""

    async def go() -> list[float]:
        times: list[float] = []

        async def one() -> None:
            async with pace.turn(tokens):
                times.append(time.monotonic())

        await asyncio.gather(*(one() for _ in range(count)))
        return times

    return asyncio.run(go())


@pytest.mark.parametrize(
    ("pace", "tokens"),
    [(Pace(8, requests=3000), 0), (Pace(8, tokens=300_000), 100), (Pace(1, requests=3000), 0)],
)
def test_no_more_a_minute_than_wanted(pace: Pace, tokens: int) -> None:
    times = entered(pace, 6, tokens)
    assert times[-1] - times[0] >= 5 * 0.02 - 0.005


def test_never_more_at_once_than_the_server_bears() -> None:
    pace = Pace(4)

    async def go() -> list[int]:
        running, most = 0, []

        async def one(number: int) -> None:
            nonlocal running
            async with pace.turn(0) as era:
                running += 1
                most.append(running)
                await asyncio.sleep(0.001)
                running -= 1
                if number in (0, 1):
                    pace.slower(era, 0.0)  # refused together: halved once
                elif number > 10:
                    pace.faster()

        await asyncio.gather(*(one(number) for number in range(40)))
        return most

    most = asyncio.run(go())
    assert max(most[:4]) == 4
    assert max(most[4:11]) == 2
    assert max(most[20:]) > 2  # grows again
    assert pace.allowed > 2


def test_everybody_rests_when_one_is_told_to() -> None:
    pace = Pace(8)
    pace.slower(0, 0.05)
    start = time.monotonic()
    assert min(entered(pace, 3)) - start >= 0.045


def test_a_few_refusals_among_many_answers_slow_nobody() -> None:
    """One in twenty: those wait, each for itself. One in three: the server has too much to do."""
    pace = Pace(8)
    for number in range(400):
        if number % 20 == 19:
            pace.slower(0, 60.0)
        else:
            pace.faster()
    assert pace.allowed == 8
    start = time.monotonic()
    assert max(entered(pace, 8)) - start < 30
    for number in range(24):
        if number % 3 == 2:
            pace.slower(0, 0.05)
        else:
            pace.faster()
    assert pace.allowed < 5
    start = time.monotonic()
    assert min(entered(pace, 1)) - start >= 0.03


def test_places_are_given_in_order() -> None:
    pace = Pace(2)

    async def go() -> list[int]:
        order = []

        async def one(number: int) -> None:
            async with pace.turn(0):
                order.append(number)
                await asyncio.sleep(0)

        tasks = [asyncio.create_task(one(number)) for number in range(10)]
        await asyncio.sleep(0)
        tasks[4].cancel()  # who no longer waits is passed over, and keeps no place
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.wait_for(pace.room(), 5)
        return order

    assert asyncio.run(go()) == [0, 1, 2, 3, 5, 6, 7, 8, 9]


def test_a_date_is_measured_by_the_servers_clock() -> None:
    """Ours may be an hour wrong; without a clock of the server's there is only ours."""
    then = datetime(2020, 1, 1, tzinfo=UTC)
    headers = {"retry-after": format_datetime(then + timedelta(seconds=7), usegmt=True)}
    assert _retry_after({**headers, "date": format_datetime(then, usegmt=True)}) == 7
    assert _retry_after(headers) == 0
    soon = datetime.now(UTC) + timedelta(seconds=100)
    assert 90 < (_retry_after({"retry-after": format_datetime(soon, usegmt=True)}) or 0) <= 100
    assert [_retry_after({"retry-after": text}) for text in ("", "soon", "-3")] == [None] * 3


def test_a_budget_counts_what_is_under_way() -> None:
    prices = Prices(read=10.0, written=20.0)
    one = prices.cost(1, 100_000, 10_000)
    assert one.money == pytest.approx(1.2)
    budget = Budget({"money": 3.0, "requests": 100})
    budget.reserve(one)
    budget.reserve(one)
    with pytest.raises(
        BudgetReached, match="budget of 3 money is reached; spent so far: 0 requests"
    ):
        budget.reserve(one)
    budget.settle(one, Cost())  # refused by the server: costs nothing
    budget.reserve(one)
    budget.settle(one, prices.cost(1, 150_000, 20_000))
    with pytest.raises(BudgetReached, match=r"1 request, 170,000 tokens, cost 1\.9"):
        budget.reserve(one)
