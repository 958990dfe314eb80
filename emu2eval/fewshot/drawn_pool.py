"""A chooser that is shown a part of its split only: so many samples, drawn anew for each trial."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Protocol

from emu2eval.data.samples import Samples
from emu2eval.encoders.base import Encoder
from emu2eval.errors import UserError
from emu2eval.fewshot.choosers import Chooser, Demonstration, PoolFeatures
from emu2eval.fewshot.draw import permutation
from emu2eval.types import Progress, Sample


class Make(Protocol):
    """Makes the chooser of one trial from its pool."""

    def __call__(self, pool: Samples, seed: int) -> Chooser: ...


class DrawnPool(Chooser):
    """What `make` makes of `size` samples of the split; each trial has a draw of its own, as each trial seed
    of OpenFlamingo's evaluation has (655f693, evaluate.py: the query set is drawn after seeding).

    without: ids that are left out after the draw, so that the others are those of everybody's pool.
    """

    def __init__(
        self,
        pool: Samples,
        seed: int,
        size: int,
        make: Make,
        without: frozenset[str] = frozenset(),
    ):
        super().__init__(pool, seed)
        self.size = size
        self.without = without
        self._make = make
        self._of: dict[int, Chooser] = {}
        self._model: Encoder | None = None

    def of(self, trial: int) -> Chooser:
        """The chooser of a trial."""
        found = self._of.get(trial)
        if found is None:
            label = (trial,) if trial else ()  # the first draw is a published one
            drawn = islice(permutation(len(self.pool), self.seed, "pool", *label), self.size)
            kept = self.pool.subset(i for i in drawn if self.pool.ids[i] not in self.without)
            found = self._of[trial] = self._make(kept, self.seed)
            if self._model is not None:
                found.prepare((), 0, model=self._model)
        return found

    def lacks(self) -> list[UserError]:
        return self.of(0).lacks()

    def fetch(self) -> None:
        self.of(0).fetch()

    @property
    def looks_through_model(self) -> bool:
        return self.of(0).looks_through_model

    def prepare(
        self,
        queries: Iterable[Sample],
        shots: int,
        *,
        model: Encoder | None = None,
        progress: Progress | None = None,
    ) -> None:
        """For the first trial; those of others prepare as they choose."""
        self._model = model or self._model
        self.of(0).prepare(queries, shots, model=model, progress=progress)

    def features(
        self, *, model: Encoder | None = None, progress: Progress | None = None
    ) -> list[PoolFeatures]:
        return self.of(0).features(model=model, progress=progress)

    def identity(self) -> Mapping[str, Any]:
        return self.of(0).identity()

    def ranked(self, query: Sample, trial: int) -> Iterator[Demonstration]:
        return self.of(trial).ranked(query, trial)

    def choose(self, query: Sample, shots: int, trial: int) -> list[Demonstration]:
        return self.of(trial).choose(query, shots, trial)
