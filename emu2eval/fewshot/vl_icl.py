"""The chooser `vl-icl`: VL-ICL Bench's own draws (github.com/ys-zong/VL-ICL, utils/ICL_utils.py)."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import islice
from typing import Literal

from emu2eval.data.samples import Samples
from emu2eval.errors import DataError, PlanError
from emu2eval.fewshot.choosers import Chooser, Demonstration
from emu2eval.fewshot.draw import Exclusion, permutation
from emu2eval.types import Sample

Draw = tuple[int, ...]


class VLICL(Chooser):
    """k shots are k samples, k pairs (`shot: pair`), or k images of each of two classes (`classes`).

    The authors' script seeds Python's `random` once and draws for query after query of the file, number
    of shots after number of shots. So every draw is found from the query's place in its file, whatever
    the limit: of a number of `runs` as that script draws it after those before it, of another number as
    if it were asked for alone. Draws of more shots do not contain those of fewer.
    trial 0 is the authors' own with seed 0; further trials have seeds of their own.
    shot: what counts as one: sample, pair or classes; runs: the numbers of shots that the script draws, in
    its order.
    """

    def __init__(
        self,
        pool: Samples,
        seed: int,
        shot: Literal["sample", "pair", "classes"] = "sample",
        runs: Sequence[int] = (0, 1, 2, 4, 8),
    ):
        super().__init__(pool, seed)
        self.shot = shot
        self.runs = tuple(runs)
        # within -> place in the file -> positions in the pool, in the order of the file
        self.sets: defaultdict[str, defaultdict[int, list[int]]] = defaultdict(
            lambda: defaultdict(list)
        )
        order: dict[int, int] = {}
        for index, sample in enumerate(pool):
            place = int(sample.fields["place"].partition(" ")[0])
            self.sets[sample.fields["within"]][place].append(index)
            order[index] = int(sample.fields.get("order", 0))
        for places in self.sets.values():
            for indices in places.values():
                indices.sort(key=order.__getitem__)
        self._drawn: dict[tuple[int, int], list[Draw]] = {}

    def ranked(self, query: Sample, trial: int) -> Iterator[Demonstration]:
        """The query's set in an order of our own: what replaces a sample that may not be shown."""
        members = [i for place in self._set(query).values() for i in place]
        for number, index in enumerate(permutation(len(members), self.seed, trial, query.id)):
            yield Demonstration(self.pool[members[index]], f"in place of a draw: {number}")

    def choose(self, query: Sample, shots: int, trial: int) -> list[Demonstration]:
        """In the authors' order. Raises PlanError where the query's set has too few."""
        if shots == 0:
            return []
        members, exclusion = self._set(query), Exclusion(query)
        draw, why = self._draw(query, shots, trial)
        why = f"vl-icl: {why}, seed {self.seed}, trial {trial}"
        if self.shot == "classes":
            found = self._classes(query, draw, shots)
        else:
            places = sorted(members)
            found = [self.pool[i] for place in draw for i in members[places[place]]]
        chosen = [Demonstration(sample, why) for sample in found if not exclusion.refuses(sample)]
        missing = len(found) - len(chosen)
        if missing:
            taken = {demonstration.sample.id for demonstration in chosen}
            spare = (d for d in self.ranked(query, trial) if d.sample.id not in taken)
            chosen += islice((d for d in spare if not exclusion.refuses(d.sample)), missing)
        if len(chosen) < len(found):
            raise self._too_few(query, shots, len(chosen))
        return chosen

    def _set(self, query: Sample) -> dict[int, list[int]]:
        found = self.sets.get(query.fields["within"])
        if found is None:
            raise DataError(
                f"the support set has no sample for the query {query.id!r}",
                where=self.pool.where,
                hint="query.json and support.json do not match; download both again",
            )
        return found

    def _draw(self, query: Sample, shots: int, trial: int) -> tuple[Draw, str]:
        """Of samples their places in the set; of classes the other class and whether it comes last."""
        place, _, total = query.fields["place"].partition(" of ")
        sizes = {len(places) for places in self.sets.values()}
        if self.shot != "classes" and shots > len(self._set(query)):
            raise self._too_few(query, shots, len(self._set(query)))
        if self.shot != "classes" and len(sizes) > 1:
            # How far the authors' generator has got depends on the sets of all queries before this one.
            size = len(self._set(query))
            drawn = islice(permutation(size, self.seed, trial, query.id), shots)
            return tuple(drawn), "sets of several sizes, a draw of our own"
        key = (shots, trial)
        if key not in self._drawn:
            self._drawn[key] = self._all(shots, trial, int(total), min(sizes))
        return self._drawn[key][int(place)], f"the authors' draw for entry {place}"

    def _all(self, shots: int, trial: int, total: int, size: int) -> list[Draw]:
        """The draws for every query of the file, in its order."""
        rng = random.Random(self.seed if trial == 0 else f"{self.seed}, trial {trial}")
        before = self.runs[: self.runs.index(shots)] if shots in self.runs else ()
        drawn: list[Draw] = []
        for count in (*before, shots):
            drawn = [self._next(rng, count, size, place) for place in range(total)]
        return drawn

    def _next(self, rng: random.Random, shots: int, size: int, place: int) -> Draw:
        if self.shot != "classes":
            return tuple(rng.sample(range(size), min(shots, size)))
        others = self._class_counts[place] - 1
        return rng.choice(range(others)), int(rng.choice([True, False]))

    @cached_property
    def _class_counts(self) -> dict[int, int]:
        return {
            place: len({self.pool[i].fields["class"] for i in indices})
            for places in self.sets.values()
            for place, indices in places.items()
        }

    def _classes(self, query: Sample, draw: Draw, shots: int) -> list[Sample]:
        """Images of the two classes in turn, the first of each first."""
        by_class: defaultdict[str, list[Sample]] = defaultdict(list)
        for indices in self._set(query).values():
            for index in indices:
                by_class[self.pool[index].fields["class"]].append(self.pool[index])
        own = query.fields["class"]
        other = [label for label in by_class if label != own][draw[0]]
        order = [own, other] if draw[1] else [other, own]
        least = min(len(by_class[label]) for label in order)
        if shots > least:
            raise self._too_few(query, shots, least)
        return [by_class[label][turn] for turn in range(shots) for label in order]

    def _too_few(self, query: Sample, shots: int, found: int) -> PlanError:
        return PlanError(
            f"{shots} shots are needed, but only {found} are available for the query {query.id!r}",
            where=self.pool.where,
            hint="use fewer shots",
        )
