"""An event loop on a thread of its own: a notebook's own loop is not in the way, and Ctrl-C is prompt."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from emu2eval.adapters.openai.pace import BudgetReached

T = TypeVar("T")


class Background:
    """Runs coroutines for a caller that knows nothing of them."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="emu2eval requests", daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The coroutine's result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def each(
        self, places: Sequence[int], ask: Callable[[int], Awaitable[T]], workers: int
    ) -> Generator[tuple[int, T]]:
        """(place, result) of every place as they come; asked for in their order, `workers` at once.

        An exception of `ask` ends the others and is raised after all that came; one that says that the
        budget is reached lets those under way finish.
        """
        came: SimpleQueue[tuple[int, T] | BaseException | None] = SimpleQueue()
        future = asyncio.run_coroutine_threadsafe(_each(places, ask, workers, came.put), self._loop)
        try:
            while (found := came.get()) is not None:
                if isinstance(found, BaseException):
                    raise found
                yield found
        finally:
            future.cancel()

    def close(self, last: Coroutine[Any, Any, None]) -> None:
        """Ends what is under way, runs the last coroutine, and ends the thread."""
        self.run(_end_others())
        self.run(last)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _each(
    places: Sequence[int],
    ask: Callable[[int], Awaitable[T]],
    workers: int,
    tell: Callable[[tuple[int, T] | BaseException | None], None],
) -> None:
    left = iter(places)
    failure: list[BaseException] = []

    async def work() -> None:
        for place in left:
            if failure:
                return
            try:
                tell((place, await ask(place)))
            except BudgetReached as error:
                failure.append(error)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(workers, len(places))):
                group.create_task(work())
    except BaseExceptionGroup as errors:
        failure.insert(0, errors.exceptions[0])
    tell(failure[0] if failure else None)


async def _end_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
