"""Which stored answers still answer what would be asked: told without a draw, a prompt or a hash.

The folder of a run is named after all that decides its prompts but the images' bytes, and every answer says
which demonstrations and which bytes it was shown. So an answer holds while the files of its samples have
these digests, which is known of files that have not changed. That the program itself builds the same prompts
as the one that asked is seen by building some of them.
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
from emu2eval.types import Image

BUILT = 64
"""Held answers, spread over the run, whose requests are made again to compare their keys."""


class StillShown:
    """Whether what stored answers of a plan were shown is what their samples show now."""

    def __init__(self, plan: Plan):
        # A file is looked at once: questions share images.
        known: dict[tuple[str, str | None], str] = {}
        self._queries = _Digests(plan.questions.samples, known, answers=False)
        # Text-only demonstrations show none.
        pool = None if plan.prompts.shots.text_only else plan.prompts.pool
        self._pool = _Digests(pool, known, answers=True) if pool is not None else None
        # Where a prompt shows images in another order than its samples have them, an exchange of two of them
        # may not show.
        in_order = plan.task.protocol.marks is None
        self._tells = in_order and plan.prompts.ablation in ("none", "order")

    def __call__(self, answer: Answer) -> bool:
        """It was shown all images of its demonstrations and then the query's, as they are now."""
        if not self._tells or answer.left_out:
            return False  # what was dropped from a prompt may fit into it now
        now: list[str] = []
        try:
            if self._pool is not None:
                for name in answer.examples:
                    now += self._pool.of(name)
            now += self._queries.of(answer.id)
        except ImageError:
            return False  # asking says what is wrong with it
        return tuple(now) == answer.shown


class _Digests:
    """Of the images that prompts show of each sample, its own and, of demonstrations, its answer's."""

    def __init__(
        self, samples: Samples, known: dict[tuple[str, str | None], str], *, answers: bool
    ):
        self._samples = samples
        self._answers = answers
        self._known = known
        self._of: dict[str, tuple[str, ...]] = {}

    def of(self, name: str) -> tuple[str, ...]:
        found = self._of.get(name)
        if found is None:
            position = self._samples.position(name)
            shown = (
                self._samples.images(position, answer=self._answers) if position is not None else ()
            )
            found = self._of[name] = tuple(map(self._digest, shown))
        return found

    def _digest(self, image: Image) -> str:
        if image.path is None or image.frame is not None:
            return images.digest(image)
        place = image.path, image.member
        if place not in self._known:
            self._known[place] = images.digest(image)
        return self._known[place]


def index(plan: Plan, store: RunStore, *, same_program: bool = True) -> None:
    """Reads the store for a plan that is about to be asked; `store.holding` is what needs no asking.

    same_program: this release asked before, as far as is known; another may build some prompts otherwise.
    """
    questions = plan.questions
    store.index(questions.slot_of, questions.slots, whole=True, holds=StillShown(plan))
    mixed = store.mixed or not same_program
    if mixed or any(not _same(plan, store, slot) for slot in _spread(store.holding)):
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
