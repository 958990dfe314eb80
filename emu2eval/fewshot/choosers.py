"""Choosers of demonstrations: random, fixed and balanced. A plug-in is a class with `ranked`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emu2eval.data.samples import Samples
from emu2eval.errors import ConfigError, PlanError, UserError
from emu2eval.fewshot.draw import Exclusion, permutation
from emu2eval.types import Progress, Sample

if TYPE_CHECKING:
    from emu2eval.encoders.base import Encoder
    from emu2eval.encoders.elsewhere import Route
    from emu2eval.encoders.features import Kind


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A chosen sample, and why it was chosen, in words."""

    sample: Sample
    why: str


@dataclass(frozen=True, slots=True)
class PoolFeatures:
    """Features of a pool's images or texts: how many, how many of them new, their digest and folder."""

    kind: Kind
    total: int
    computed: int
    digest: str
    folder: Path


class Chooser(ABC):
    """Built once per run from the pool, the seed and the options of the task's YAML.

    The constructor reads local configuration and the pool, which is empty where only `lacks` is asked.
    """

    route: Route | None = None
    """Set by whoever has other places for an encoder of its own than this process."""

    def __init__(self, pool: Samples, seed: int):
        self.pool = pool
        self.seed = seed

    def lacks(self) -> list[UserError]:
        """What is missing before it can choose, such as an encoder's weights. Each error says how to get it.

        Judged from this machine alone: nothing is loaded, and the network is not used.
        """
        return []

    def fetch(self) -> None:
        """Downloads what `lacks` reports, as far as possible. Raises UserError where that fails."""

    @property
    def looks_through_model(self) -> bool:
        """Whether its choices depend on the evaluated model, so it cannot be shared with another."""
        return False

    def prepare(
        self,
        queries: Iterable[Sample],
        shots: int,
        *,
        model: Encoder | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Lengthy work before `choose`, for all of these queries at once; it must not change any choice.

        model: the evaluated model's own image encoder.
        """

    def features(
        self, *, model: Encoder | None = None, progress: Progress | None = None
    ) -> list[PoolFeatures]:
        """Computes the features of its pool that are missing; returns what there is then.

        Empty for a chooser that uses none. model: as for `prepare`.
        """
        return []

    def identity(self) -> Mapping[str, Any]:
        """Small JSON values that, together with its options, determine its choices, such as a digest of
        features.

        They are part of a run's identity. Asked after `prepare`.
        """
        return {}

    @abstractmethod
    def ranked(self, query: Sample, trial: int) -> Iterator[Demonstration]:
        """Demonstrations for the query, best first, until the pool is used up.

        `choose` excludes the query's own id and images. Must depend only on the pool, the seed, the
        query and the trial.
        """

    def choose(self, query: Sample, shots: int, trial: int) -> list[Demonstration]:
        """The best `shots` demonstrations for the query, with the best one last, next to the query.

        Fewer shots are a subset of more; additional ones are placed farther from the query.
        Raises PlanError if the pool has too few.
        """
        exclusion = Exclusion(query)
        chosen: list[Demonstration] = []
        if shots == 0:
            return chosen
        for demonstration in self.ranked(query, trial):
            if exclusion.refuses(demonstration.sample):
                continue
            chosen.append(demonstration)
            if len(chosen) == shots:
                return chosen[::-1]
        raise PlanError(
            f"{shots} demonstrations are needed, but the pool has only {len(chosen)} for the query "
            f"{query.id!r} (its own id and image are excluded)",
            where=self.pool.where,
            hint="use fewer shots, or a larger split for demonstrations",
        )


class Random(Chooser):
    """Every sample of the pool is equally likely, drawn anew for each query."""

    def ranked(self, query: Sample, trial: int) -> Iterator[Demonstration]:
        return self._draw(trial, query.id)

    def _draw(self, trial: int, label: str) -> Iterator[Demonstration]:
        name = type(self).__name__.lower()
        for number, index in enumerate(permutation(len(self.pool), self.seed, trial, label)):
            why = f"{name}: draw {number}, seed {self.seed}, trial {trial}"
            yield Demonstration(self.pool[index], why)


class Fixed(Random):
    """The same demonstrations for every query of a trial; one that a query may not be shown is replaced.

    Models with a key/value cache compute such a prefix once for the whole run.
    """

    def ranked(self, query: Sample, trial: int) -> Iterator[Demonstration]:
        # No query has an empty id, so this draw belongs to no query.
        return self._draw(trial, "")


class Balanced(Chooser):
    """Answers in turn, so that each of n answers is shown k/n times; within an answer, random.

    The order of the answers is drawn anew for each query and each round through them.
    """

    def __init__(self, pool: Samples, seed: int):
        super().__init__(pool, seed)
        by_answer: dict[str, list[int]] = {}
        for index, sample in enumerate(pool):
            if not isinstance(sample.answer, str):
                raise ConfigError(
                    f"the chooser 'balanced' needs text answers, but {sample.id!r} has none",
                    where=pool.where,
                    hint="use 'random' or 'fixed'",
                )
            by_answer.setdefault(sample.answer, []).append(index)
        self.by_answer = sorted(by_answer.items())

    def ranked(self, query: Sample, trial: int) -> Iterator[Demonstration]:
        label = (self.seed, trial, query.id)
        exclusion = Exclusion(query)
        members: dict[str, Iterator[int]] = {}
        round_number, given = 0, -1
        while given:
            given = 0
            for place in permutation(len(self.by_answer), *label, "round", round_number):
                answer, indices = self.by_answer[place]
                if answer not in members:
                    members[answer] = (
                        indices[i] for i in permutation(len(indices), *label, "answer", answer)
                    )
                # A refused sample must not cost its answer the turn.
                allowed = (self.pool[i] for i in members[answer])
                sample = next((s for s in allowed if not exclusion.refuses(s)), None)
                if sample is not None:
                    given += 1
                    why = f"balanced: answer {answer!r}, round {round_number}, seed {self.seed}"
                    yield Demonstration(sample, f"{why}, trial {trial}")
            round_number += 1
