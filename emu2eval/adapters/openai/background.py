"""An event loop on a thread of its own: a notebook's own loop is not in the way, and Ctrl-C is prompt."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any, Generic, TypeVar

from emu2eval.adapters.openai.pace import BudgetReached, Pace

T = TypeVar("T")
Item = TypeVar("Item")

AHEAD = 128
"""Items that are taken before their turn, so that none is waited for when a place becomes free."""

RESTING = 16
"""For each place, items that may wait to be asked again; more are not begun meanwhile."""


class Background:
    """Runs coroutines for a caller that knows nothing of them."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._flow: _Flow[Any, Any] | None = None
        self._thread = Thread(target=self._loop.run_forever, name="emu2eval requests", daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The coroutine's result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def each(
        self, items: Iterable[Item], ask: Callable[[Item], Awaitable[T]], pace: Pace
    ) -> Generator[T]:
        """The result of every item as they come; asked for in their order, each once a place is free.

        Items are taken on the caller's thread, a few ahead. An exception of `ask` ends the others and is
        raised after all that came; one that says that the budget is reached, and one of `items`, lets
        those under way finish.
        """
        flow = self._flow = _Flow(self._loop, ask, pace)
        future = asyncio.run_coroutine_threadsafe(flow.run(), self._loop)
        left = iter(items)
        problem: Exception | None = None
        try:
            while True:
                # Neither is put off for long by the other: what came waits to be stored.
                if flow.wants():
                    try:
                        flow.give(next(left))
                    except StopIteration:
                        flow.end()
                    except Exception as error:
                        problem = error
                        flow.end()
                    if flow.came.empty():
                        continue
                found = flow.came.get()
                if found is _MORE:
                    continue
                if found is None:
                    break
                if isinstance(found, BaseException):
                    raise found
                yield found
            if problem is not None:
                raise problem
        finally:
            self._flow = None
            future.cancel()

    def finish(self) -> None:
        """Begins nothing more of what `each` was given."""
        if (flow := self._flow) is not None:
            self._loop.call_soon_threadsafe(flow.finish)

    def close(self, last: Coroutine[Any, Any, None]) -> None:
        """Ends what is under way, runs the last coroutine, and ends the thread."""
        self.run(_end_others())
        self.run(last)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


_MORE = object()
"""Wakes a caller who waits for a result while items are wanted."""


class _Flow(Generic[Item, T]):
    """Items from one thread to the tasks of a loop on another, and their results back.

    came: results; _MORE; at the end an exception or None.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, ask: Callable[[Item], Awaitable[T]], pace: Pace
    ):
        self.came: SimpleQueue[Any] = SimpleQueue()
        self._loop = loop
        self._ask = ask
        self._pace = pace
        self._coming: deque[Item] = deque()
        self._ended = False
        self._hungry = False
        self._fed = asyncio.Event()
        self._fewer = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None

    # -- on the caller's thread -------------------------------------------------------------------

    def wants(self) -> bool:
        return not self._ended and len(self._coming) < AHEAD

    def give(self, item: Item) -> None:
        self._coming.append(item)
        self._feed()

    def end(self) -> None:
        self._ended = True
        self._feed()

    def finish(self) -> None:
        """On the loop."""
        self._coming.clear()
        self._ended = True
        self._fed.set()

    def _feed(self) -> None:
        if self._hungry:
            self._hungry = False
            self._loop.call_soon_threadsafe(self._fed.set)

    # -- on the loop ------------------------------------------------------------------------------

    async def run(self) -> None:
        try:
            await self._begin_all()
            while self._tasks and not self._broken():
                await self._one_ends()
        except Exception as error:
            self._failure = self._failure or error
        finally:
            self._ended = True
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.gather(*self._tasks, return_exceptions=True)
            self.came.put(self._failure)

    async def _begin_all(self) -> None:
        while self._failure is None:
            await self._pace.room()
            while len(self._tasks) >= RESTING * self._pace.at_once and self._failure is None:
                await self._one_ends()
            if self._failure is not None or not await self._filled():
                return
            task = self._loop.create_task(self._one(self._coming.popleft()))
            self._tasks.add(task)
            task.add_done_callback(self._one_ended)
            if len(self._coming) < AHEAD // 2 and not self._ended and self.came.empty():
                self.came.put(_MORE)
            await asyncio.sleep(0)  # it takes its place

    async def _filled(self) -> bool:
        """Waits for an item; whether there is one."""
        while not self._coming:
            if self._ended or self._failure is not None:
                return bool(self._coming) and self._failure is None
            self._fed.clear()
            self._hungry = True
            if self._coming or self._ended:
                continue  # given meanwhile
            await self._fed.wait()
        return True

    async def _one(self, item: Item) -> None:
        try:
            self.came.put(await self._ask(item))
        except Exception as error:
            if not self._broken():
                self._failure = error
            if self._broken():
                for task in self._tasks - {asyncio.current_task()}:
                    task.cancel()
            self._fed.set()

    def _one_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._fewer.set()

    def _broken(self) -> bool:
        return self._failure is not None and not isinstance(self._failure, BudgetReached)

    async def _one_ends(self) -> None:
        self._fewer.clear()
        await self._fewer.wait()


async def _end_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    with suppress(asyncio.CancelledError):
        await asyncio.gather(*others, return_exceptions=True)
