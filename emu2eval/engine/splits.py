"""The splits and choosers of one evaluation, each made once, so that several shots and models share them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from emu2eval.data.absent import absent
from emu2eval.data.load import load_split, takes_shots
from emu2eval.data.samples import Samples
from emu2eval.engine.tasks import OpenTask
from emu2eval.errors import MissingData, of_part
from emu2eval.fewshot.choosers import Chooser
from emu2eval.fewshot.drawn_pool import DrawnPool
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
                shown = f"{len(found):,} of {len(samples):,} samples refer to a missing file"
                if len(found) == len(samples):
                    raise MissingData(
                        f"{task.name}, split {name}: {shown}, so no samples are left",
                        where=task.task.root,
                        hint=f"to list the missing files: emu2eval data check {task.name}",
                    )
                self.watcher.note(
                    f"{task.name}, split {name}: {shown} and are skipped; the first is {found[0]}"
                )
        return self.lost[id(samples)]

    def pool(self, task: OpenTask) -> Samples:
        """What the task's demonstrations are drawn from: what cannot be read is never shown."""
        key = (*self._key(task, task.pool_split), "readable")
        if key not in self.read:
            self.read[key] = self.split(task, task.pool_split).readable()
        return self.read[key]

    def chooser(
        self, task: OpenTask, seed: int, without: Collection[str] = ()
    ) -> tuple[Samples, Chooser]:
        """The pool of the task's demonstrations, and who chooses from it. without: ids that are left out."""
        spec, pool, gone = task.spec.demonstrations, self.pool(task), frozenset(without)
        key: tuple[Any, ...] = (*self._key(task, task.pool_split), seed, str(spec), gone)
        left = pool
        if gone:
            if key not in self.read:
                self.read[key] = pool.subset(
                    i for i, each in enumerate(pool.ids) if each not in gone
                )
            left = self.read[key]
        found = self.choosers.get(key)
        if found is None or found.looks_through_model:
            with of_part("chooser", spec.chooser):
                if spec.drawn is not None and spec.drawn < len(pool):
                    found = DrawnPool(pool, seed, spec.drawn, task.chooser, gone)
                else:
                    found = task.chooser(left, seed)
            self.choosers[key] = found
        return left, found

    def split(self, task: OpenTask, name: str, shots: int = 0) -> Samples:
        """shots: how many demonstrations its samples are shown, as queries; few readers ask for it."""
        key = self._key(task, name, shots)
        if key not in self.read:
            self.watcher.reading(f"{task.name}, split {name}")
            self.read[key] = load_split(task.task, name, shots)
            self._tell(self.read[key])
        return self.read[key]

    def _tell(self, samples: Samples) -> None:
        """Names the samples that cannot be asked."""
        lost = samples.unreadable
        if not lost:
            return
        named = [f"{samples.ids[position]}, {why}" for position, why in islice(lost.items(), 3)]
        more = f"; and {len(lost) - 3:,} more" if len(lost) > 3 else ""
        self.watcher.note(
            f"{samples.where}: {len(lost):,} of {len(samples):,} samples could not be read; they "
            "are not used "
            f"as demonstrations and stay unscored as queries:  {'; '.join(named)}{more}"
        )

    def _key(self, task: OpenTask, name: str, shots: int = 0) -> tuple[Any, ...]:
        source = (str(task.task.root), task.task.sources.get(name), str(task.document.path))
        asked = shots if takes_shots(task.task, name) else 0
        return (*source, str(task.spec.data), name, asked)
