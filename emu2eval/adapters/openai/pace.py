"""How fast and how much a server is asked: concurrency, rates, budgets."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from emu2eval.adapters.base import Cost
from emu2eval.errors import ModelError, PlanError


@dataclass(frozen=True, slots=True)
class Prices:
    """Money for a million tokens read and written; None = not known."""

    read: float | None = None
    written: float | None = None

    def cost(self, requests: int, tokens_in: int, tokens_out: int) -> Cost:
        if self.read is None and self.written is None:
            return Cost(requests, tokens_in, tokens_out)
        money = (tokens_in * (self.read or 0) + tokens_out * (self.written or 0)) / 1e6
        return Cost(requests, tokens_in, tokens_out, money)


RECENT = 32
"""Outcomes from which it is judged whether a server has too much to do."""


class Pace:
    """Lets requests through in their order: so many at once, so many per minute, none during a rest.

    requests, tokens: a minute. A server that refuses one request in four, or the first ones, has too much to
    do: nobody asks while it wants rest, and the number at once halves, to grow again by one for each full
    round of answers (additive increase, multiplicative decrease). Where it refuses fewer, only those wait.
    """

    def __init__(self, at_once: int, requests: float | None = None, tokens: float | None = None):
        self.at_once = at_once
        self.allowed = float(at_once)
        self._request_gap = 60 / requests if requests else 0.0
        self._token_gap = 60 / tokens if tokens else 0.0
        self._running = 0
        self._era = 0
        self._queue: deque[asyncio.Future[None]] = deque()
        self._refused: deque[bool] = deque(maxlen=RECENT)
        self._rest_until = self._next_request = self._next_tokens = 0.0

    @asynccontextmanager
    async def turn(self, tokens: int) -> AsyncIterator[int]:
        """Waits until a request of so many tokens may go out. Gives what `slower` wants to know."""
        await self._place()
        try:
            await self._due(tokens)
            yield self._era
        finally:
            self._leave()

    async def room(self) -> None:
        """Waits until a place is free, behind those who wait for one."""
        await self._place()
        self._leave()

    async def _place(self) -> None:
        if not self._queue and self._running < int(self.allowed):
            self._running += 1
            return
        granted = asyncio.get_running_loop().create_future()
        self._queue.append(granted)
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self._leave()
            raise

    def _leave(self) -> None:
        self._running -= 1
        self._admit()

    def _admit(self) -> None:
        while self._queue and self._running < int(self.allowed):
            granted = self._queue.popleft()
            if not granted.done():
                self._running += 1
                granted.set_result(None)

    async def _due(self, tokens: int) -> None:
        due = max(time.monotonic(), self._next_request, self._next_tokens)
        self._next_request = due + self._request_gap
        self._next_tokens = due + tokens * self._token_gap
        while (wait := max(due, self._rest_until) - time.monotonic()) > 0:
            await asyncio.sleep(wait)

    def correct(self, tokens: int) -> None:
        """So many tokens more (or fewer) than estimated were used."""
        self._next_tokens += tokens * self._token_gap

    def faster(self) -> None:
        """An answer came."""
        self._refused.append(False)
        self.allowed = min(self.at_once, self.allowed + 1 / self.allowed)
        self._admit()

    def slower(self, era: int, rest: float) -> None:
        """The server refused a request of `era` as too much, and wants `rest` seconds for it."""
        self._refused.append(True)
        refused = sum(self._refused)
        if refused < len(self._refused) and 4 * refused < max(len(self._refused), RECENT // 2):
            return
        self._rest_until = max(self._rest_until, time.monotonic() + rest)
        if era == self._era:
            # Of several that were refused together, only the first counts.
            self._era += 1
            self.allowed = max(1.0, self.allowed / 2)
            self._refused.clear()


class BudgetReached(ModelError):
    """No more may be asked. What was answered is kept. name: of the limit."""

    def __init__(self, name: str, most: float, spent: Cost):
        self.name = name
        requests = "1 request" if spent.requests == 1 else f"{spent.requests:,} requests"
        said = f"{requests}, {spent.tokens_in + spent.tokens_out:,} tokens"
        if spent.money is not None:
            said += f", cost {spent.money:,.6g}"
        super().__init__(
            f"the budget of {most:,.6g} {name} is reached; spent so far: {said}",
            where=f"budget.{name}",
            hint="all answers so far are saved; raise the budget and run the same command again",
        )


class Budget:
    """The most that one command may use of a server: requests, tokens, money. Each may be left out.

    Requests that the server refused are not counted; those that it may have answered are, though the
    answer was lost.
    """

    def __init__(self, limits: Mapping[str, float | None]):
        self._limits = {name: most for name, most in limits.items() if most is not None}
        self._used = Cost()
        self._reserved = Cost()

    def afford(self, cost: Cost) -> None:
        """Raises PlanError where an estimate is beyond what is left."""
        name = self._beyond(self._used + cost)
        if name is not None:
            raise PlanError(
                f"this would take about {_amount(cost, name):,.6g} {name}; the budget allows "
                f"{self._limits[name]:,.6g}",
                where=f"budget.{name}",
                hint="raise the budget, use fewer samples (--limit), or fewer demonstrations",
            )

    def reserve(self, cost: Cost) -> None:
        """Sets aside what a request may take. Raises BudgetReached where too little is left."""
        name = self._beyond(self._used + self._reserved + cost)
        if name is not None:
            raise self.reached(name)
        self._reserved += cost

    def reached(self, name: str) -> BudgetReached:
        """With what is spent by now, which is more once those under way have their answers."""
        return BudgetReached(name, self._limits[name], self._used)

    def settle(self, reserved: Cost, used: Cost) -> None:
        """Replaces what was set aside by what was used."""
        self._reserved += _negative(reserved)
        self._used += used

    def _beyond(self, cost: Cost) -> str | None:
        over = (name for name in self._limits if _amount(cost, name) > self._limits[name])
        return next(over, None)


def _amount(cost: Cost, name: str) -> float:
    if name == "requests":
        return cost.requests
    return cost.tokens_in + cost.tokens_out if name == "tokens" else cost.money or 0.0


def _negative(cost: Cost) -> Cost:
    money = None if cost.money is None else -cost.money
    return Cost(-cost.requests, -cost.tokens_in, -cost.tokens_out, money)
