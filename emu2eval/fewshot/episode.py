"""The chooser `episode`: demonstrations come from the query's own episode, the only ones that can help."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from emu2eval.data.samples import Samples
from emu2eval.errors import UnknownName
from emu2eval.fewshot.choosers import Chooser, Demonstration
from emu2eval.fewshot.draw import permutation
from emu2eval.types import Sample


class Episode(Chooser):
    """The other samples of the query's cluster, in rounds: each round shows every answer once.

    by: the field whose values take turns, in place of the answer, where answers are images.
    rounds: False = in random order instead, whatever the answers.
    """

    def __init__(
        self,
        pool: Samples,
        seed: int,
        rounds: bool = True,
        by: str | None = None,
    ):
        super().__init__(pool, seed)
        if by is not None and len(pool) and by not in pool[0].fields:
            raise UnknownName("field of the samples", by, pool[0].fields)
        self.rounds = rounds
        self.by = by
        self.members: defaultdict[str | None, list[int]] = defaultdict(list)
        for index, sample in enumerate(pool):
            self.members[sample.cluster].append(index)

    def ranked(self, query: Sample, trial: int) -> Iterator[Demonstration]:
        label = (self.seed, trial, query.id)
        # The query is left out here and not by the caller, so that it costs its answer no turn.
        members = [self.pool[i] for i in self.members[query.cluster]]
        others = [s for s in members if s.id != query.id]
        for number, place in enumerate(self._order(others, label)):
            why = f"episode {query.cluster}: draw {number}, seed {self.seed}, trial {trial}"
            yield Demonstration(others[place], why)

    def _order(self, samples: list[Sample], label: tuple[object, ...]) -> list[int]:
        if not self.rounds:
            return list(permutation(len(samples), *label))
        turns: defaultdict[str, list[int]] = defaultdict(list)
        for place in permutation(len(samples), *label):
            sample = samples[place]
            taking = sample.answer if self.by is None else sample.fields.get(self.by)
            turns[str(taking)].append(place)
        # The order within a round is drawn of the answers and not of their samples: the query's own answer
        # has a sample less, and would come early less often.
        answers = sorted(turns)
        drawn = []
        for number in range(max(map(len, turns.values()))):
            for answer in permutation(len(answers), *label, "round", number):
                drawn += turns[answers[answer]][number : number + 1]
        return drawn
