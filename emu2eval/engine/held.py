"""Which stored answers still answer what would be asked: told without a draw, a prompt or a hash.

The folder of a run is named after all that decides its prompts but the images' bytes, and every answer says
which demonstrations and which bytes it was shown. So an answer holds while the files of its samples have these
digests, which is known of files that have not changed. That the program itself builds the same prompts as the
one that asked is seen by building some of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from emu2eval.data.samples import Samples
from emu2eval.engine.plan import Plan
from emu2eval.errors import ImageError
from emu2eval.media import images
from emu2eval.runs.answers import Answer
from emu2eval.runs.store import RunStore

BUILT = 64
"""Held answers, spread over the run, whose requests are made again to compare their keys."""


class Held:
    """Whether stored answers of a plan hold."""

    def __init__(self, plan: Plan):
        self._queries = _Digests(plan.questions.samples)
        pool = plan.prompts.pool
        self._pool = _Digests(pool) if pool is not None else None

    def __call__(self, answer: Answer) -> bool:
        """Every image that it was shown is still one of its samples'."""
        if not answer.shown:
            return True
        try:
            known = self._queries.of(answer.id)
            if all(digest in known for digest in answer.shown):
                return True
            if self._pool is None:
                return False
            there = {*known, *(d for name in answer.examples for d in self._pool.of(name))}
        except ImageError:
            return False  # asking says what is wrong with it
        return there.issuperset(answer.shown)


class _Digests:
    """Of the images that prompts may show of each sample, its own and its answer's."""

    def __init__(self, samples: Samples):
        self._samples = samples
        self._known: dict[int, tuple[str, ...]] = {}

    def of(self, name: str) -> tuple[str, ...]:
        position = self._samples.position(name)
        if position is None:
            return ()
        found = self._known.get(position)
        if found is None:
            found = tuple(images.digest(image) for image in self._samples.images(position))
            self._known[position] = found
        return found


def index(plan: Plan, store: RunStore) -> None:
    """Reads the store for a plan that is about to be asked; `store.holding` is what needs no asking."""
    questions = plan.questions
    store.index(questions.slot_of, questions.slots, whole=True, holds=Held(plan))
    if any(not _same(plan, store, slot) for slot in _spread(store.holding)):
        # Another release builds other prompts, or images were exchanged: every key is compared.
        store.holding[:] = bytes(len(store.holding))


def _spread(holding: bytearray) -> Iterator[int]:
    step = max(1, holding.count(1) // BUILT)
    slots = (slot for slot, holds in enumerate(holding) if holds)
    return islice(slots, 0, None, step)


def _same(plan: Plan, store: RunStore, slot: int) -> bool:
    """The request that is made for it now has the key that was answered."""
    try:
        return store.has(slot, plan.at(plan.questions.place(slot)).request.key)
    except ImageError:
        return False
