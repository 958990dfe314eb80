"""The splits and choosers of one evaluation, each made once, so that several shots and models share them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from emu2eval.data.absent import absent
from emu2eval.data.load import load_split, takes_shots
from emu2eval.data.samples import Samples
from emu2eval.engine.tasks import OpenTask
from emu2eval.errors import MissingData, of_part
from emu2eval.fewshot.choosers import Chooser
from emu2eval.fewshot.draw import permutation
from emu2eval.watch import Watcher


@dataclass
class Splits:
    """What was read, and who chooses from it.

    skip_missing: samples whose image or video file is not there are neither asked about nor shown.
    """

    watcher: Watcher
    skip_missing: bool = False
    read: dict[tuple[Any, ...], Samples] = field(default_factory=dict)
    choosers: dict[tuple[Any, ...], Chooser] = field(default_factory=dict)
    lost: dict[int, tuple[str, ...]] = field(default_factory=dict)

    def missing(self, task: OpenTask, name: str, samples: Samples) -> tuple[str, ...]:
        """Ids of the samples of a split that are to be left out.

        Raises MissingData where that would be all of them.
        """
        if not self.skip_missing:
            return ()
        if id(samples) not in self.lost:
            found = self.lost[id(samples)] = tuple(absent(samples))
            if found:
                shown = f"{len(found):,} of {len(samples):,} samples show a file that is not there"
                if len(found) == len(samples):
                    raise MissingData(
                        f"{task.name}, split {name}: {shown}, so nothing is left",
                        where=task.task.root,
                        hint=f"emu2eval data check {task.name} names the files",
                    )
                self.watcher.note(
                    f"{task.name}, split {name}: {shown} and are left out; the first is {found[0]}"
                )
        return self.lost[id(samples)]

    def pool(self, task: OpenTask, seed: int) -> Samples:
        """What the task's demonstrations are drawn from."""
        return self.split(task, task.pool_split, task.spec.demonstrations.pool, seed)

    def chooser(
        self, task: OpenTask, seed: int, without: Collection[str] = ()
    ) -> tuple[Samples, Chooser]:
        """The pool of the task's demonstrations, and who chooses from it. without: ids that are left out."""
        spec, pool = task.spec.demonstrations, self.pool(task, seed)
        key: tuple[Any, ...] = (self._key(task, task.pool_split, spec.pool, seed), seed, str(spec))
        if without:
            key = (*key, frozenset(without))
            if key not in self.read:
                # Drawn first, then left out: the others are those that everybody's pool holds.
                gone = frozenset(without)
                kept = [i for i, each in enumerate(pool.ids) if each not in gone]
                self.read[key] = pool.subset(kept)
            pool = self.read[key]
        found = self.choosers.get(key)
        if found is None or found.looks_through_model:
            with of_part("chooser", spec.chooser):
                found = self.choosers[key] = task.chooser(pool, seed)
        return pool, found

    def split(
        self, task: OpenTask, name: str, pool: int | None = None, seed: int = 0, shots: int = 0
    ) -> Samples:
        """pool: only so many samples of it, drawn by the seed. shots: how many demonstrations its samples
        are shown, as queries; few readers ask for it."""
        key = self._key(task, name, pool, seed, shots)
        if key not in self.read:
            if pool is not None:
                whole = self.split(task, name)
                drawn = permutation(len(whole), seed, "pool")
                chosen = [index for index, _ in zip(drawn, range(pool), strict=False)]
                self.read[key] = whole.subset(chosen)
            else:
                self.watcher.reading(f"{task.name}, split {name}")
                self.read[key] = load_split(task.task, name, shots)
        return self.read[key]

    def _key(
        self, task: OpenTask, name: str, pool: int | None, seed: int, shots: int = 0
    ) -> tuple[Any, ...]:
        source = (str(task.task.root), task.task.sources.get(name), str(task.document.path))
        asked = shots if takes_shots(task.task, name) else 0
        return (*source, str(task.spec.data), name, pool, seed if pool else 0, asked)
