"""What a run asks, before any model is known: queries, trials and takes, and the slots that they fill."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import NamedTuple

from emu2eval.data.samples import Samples
from emu2eval.engine.tasks import OpenTask
from emu2eval.fewshot.draw import permutation
from emu2eval.runs.answers import Answer
from emu2eval.runs.record import Extent
from emu2eval.types import Sample, Shots


class Place(NamedTuple):
    """One answer of a run. position: of the query in its split; trial: which draw of demonstrations;
    take: which of several answers to the same prompt."""

    position: int
    trial: int = 0
    take: int = 0


@dataclass(frozen=True)
class Questions:
    """All that scoring, importing, judging and submitting need to know of a run.

    limit: only so many queries, a fixed random subset in which smaller ones are contained in larger.
    trials: repetitions with other demonstrations (and another noise); takes: answers to each prompt.
    sampled: the model draws its answers, anew in each trial.
    only: ids of the queries, where answers that were given elsewhere decide them. without: ids of queries
    that cannot be asked, which are left out of those that the limit gives.
    """

    task: OpenTask
    samples: Samples
    limit: int | None = None
    trials: int = 1
    takes: int = 1
    only: frozenset[str] | None = None
    without: frozenset[str] = frozenset()
    sampled: bool = False

    @cached_property
    def positions(self) -> list[int]:
        """Positions of the queries within the split, in the order of their ids."""
        ids = self.samples.ids
        return [i for i in self._wanted if ids[i] not in self.without]

    @property
    def left_out(self) -> int:
        """How many of the queries that were asked for are left out."""
        return len(self._wanted) - len(self.positions)

    @cached_property
    def _wanted(self) -> list[int]:
        total = len(self.samples)
        if self.only is not None:
            return [i for i, name in enumerate(self.samples.ids) if name in self.only]
        if self.limit is None or self.limit >= total:
            return list(range(total))
        # Not the first ones of the file: those often share a few images or a few question types.
        return sorted(islice(permutation(total, "limit"), self.limit))

    @cached_property
    def asked(self) -> list[int]:
        """The positions of the queries that can be asked; the others stay unscored."""
        return [i for i in self.positions if i not in self.samples.unreadable]

    def __len__(self) -> int:
        return len(self.asked) * self.trials * self.takes

    def __iter__(self) -> Iterator[Place]:
        """Trial by trial; the takes of a prompt one after the other, for models that keep what they read."""
        for trial in range(self.trials):
            for position in self.asked:
                for take in range(self.takes):
                    yield Place(position, trial, take)

    @property
    def slots(self) -> int:
        """How many there are, those of queries that are left out included."""
        return len(self.samples) * self.trials * self.takes

    def slot(self, place: Place) -> int:
        """The number of a place: the same for any limit, and for more trials."""
        return (place.trial * self.takes + place.take) * len(self.samples) + place.position

    def place(self, slot: int) -> Place:
        """The place of a slot."""
        answer, position = divmod(slot, len(self.samples))
        return Place(position, *divmod(answer, self.takes))

    def slot_of(self, answer: Answer) -> int | None:
        """The slot that a stored answer fills, or None where it is none of these questions'."""
        position = self.samples.position(answer.id)
        known = 0 <= answer.trial < self.trials and 0 <= answer.take < self.takes
        if position is None or not known:
            return None
        return self.slot(Place(position, answer.trial, answer.take))

    def query(self, position: int) -> Sample:
        """The sample at a position, with the choices that the task fixes for all."""
        sample = self.samples[position]
        fixed = self.task.choices
        return replace(sample, choices=fixed) if fixed else sample


def questions_of(
    task: OpenTask,
    samples: Samples,
    shots: Shots,
    extent: Extent,
    only: frozenset[str] | None = None,
    without: Iterable[str] = (),
    sampled: bool = False,
) -> Questions:
    """The questions of a run. Without demonstrations nothing is drawn, so one trial is as good as many,
    unless the answer itself is drawn, as an image is, and as a text is where it is `sampled`. Answers given
    elsewhere (`only`) have one take."""
    output = task.spec.output
    trials = extent.trials if shots.count or output.random or sampled else 1
    takes = output.takes if only is None else 1
    return Questions(task, samples, extent.limit, trials, takes, only, frozenset(without), sampled)
