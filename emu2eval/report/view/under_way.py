"""A run that is not finished: what was answered so far, read as it is written, and what that is worth."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emu2eval.engine.questions import Questions
from emu2eval.engine.reopen import reopen
from emu2eval.engine.scoring import response_of
from emu2eval.engine.splits import Splits
from emu2eval.errors import ImageError, UserError
from emu2eval.media import images
from emu2eval.runs.answers import Answer, from_line
from emu2eval.runs.record import Record, read_record
from emu2eval.runs.scores import REPORT
from emu2eval.runs.sealed import Damaged
from emu2eval.runs.store import ANSWERS, RunStore
from emu2eval.scorers.base import Scorer
from emu2eval.scorers.judged import JudgedScorer
from emu2eval.statistics.estimates import Accumulator, ClusteredMean, estimate
from emu2eval.types import Image, Sample, Score
from emu2eval.watch import Watcher

SILENT = 120.0
"""Seconds without an answer after which a run is told to stand still."""
_NEWEST = 6
_SHOWN = 300
"""Characters of a reply that a glance at it shows."""

Serve = Callable[[Image], str | None]
"""Makes an image known to the server; where it is then found, None for one that cannot be opened."""


def unfinished(folder: Path) -> bool:
    """Whether answers came after the run was scored, or it never was."""
    try:
        answered = (folder / ANSWERS).stat().st_mtime_ns
    except OSError:
        return False
    try:
        return answered > (folder / REPORT).stat().st_mtime_ns
    except OSError:
        return True


@dataclass
class UnderWay:
    """One unfinished run; `look` reads what is new. splits: data that several runs share."""

    folder: Path
    splits: Splits
    serve: Serve
    record: Record = field(init=False)
    questions: Questions | None = field(init=False, default=None)
    scorer: Scorer | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.record = read_record(self.folder)
        try:
            reopened = reopen(self.folder, splits=self.splits)
        except UserError:
            pass  # its answers are shown all the same
        else:
            reopened.store.close()
            self.questions = reopened.questions
            self.scorer = _quick(self.questions.task.scorer)
        self._store = RunStore(self.folder)
        self._begin()

    def _begin(self) -> None:
        self._offset = 0
        self._done: set[tuple[str, int, int]] = set()
        self._failed: set[tuple[str, int, int]] = set()
        self._newest: deque[Answer] = deque(maxlen=_NEWEST)
        self._whole = _mean(self.scorer) if self.scorer is not None else None
        self._clusters: Counter[str] = Counter()
        self._last = 0.0
        self._first = 0.0
        self._before = 0

    def look(self) -> None:
        """Reads the answers that came since the last time."""
        path = self.folder / ANSWERS
        try:
            stat = path.stat()
            if stat.st_size < self._offset:
                self._begin()  # damaged lines were set aside
            with path.open("rb") as lines:
                lines.seek(self._offset)
                for line in lines:
                    if not line.endswith(b"\n"):
                        break  # being written
                    self._offset += len(line)
                    try:
                        self._take(from_line(line))
                    except Damaged:
                        continue
        except OSError:
            return
        self._last = stat.st_mtime
        if not self._first:
            self._first, self._before = time.time(), len(self._done)

    def _take(self, answer: Answer) -> None:
        key = answer.id, answer.trial, answer.take
        if key in self._done:
            return
        if answer.error is not None:
            self._failed.add(key)
        else:
            self._failed.discard(key)
            self._done.add(key)
            self._count(answer)
        self._newest.append(answer)

    def _count(self, answer: Answer) -> None:
        sample, score = self._scored(answer)
        if sample is not None and score is not None and score.value is not None and self._whole:
            self._whole.add(sample, score)
            self._clusters[sample.cluster or sample.id] += 1

    def _scored(self, answer: Answer) -> tuple[Sample | None, Score | None]:
        if self.questions is None or self.scorer is None:
            return None, None
        position = self.questions.samples.position(answer.id)
        if position is None:
            return None, None
        sample = self.questions.query(position)
        response = response_of(answer, self.questions.task.clean, self._store)
        if response is None or sample.unreadable is not None:
            return sample, None
        try:
            return sample, self.scorer.score(sample, response)
        except (UserError, ImageError):
            return sample, None

    def state(self) -> dict[str, Any]:
        """For the page: how far it is, how quick, what it is worth so far, and the newest answers."""
        record, now = self.record, time.time()
        total = len(self.questions) if self.questions is not None else None
        rate = (len(self._done) - self._before) / max(1.0, now - self._first)
        left = None
        if total is not None and rate > 0:
            left = round((total - len(self._done)) / rate)
        return {
            "name": self.folder.name,
            "task": record.task.name,
            "split": record.task.split,
            "protocol": record.protocol_label,
            "model": record.model.name,
            "shots": record.setting,
            "done": len(self._done),
            "failed": len(self._failed),
            "total": total,
            "rate": round(rate * 60, 1),
            "left": left,
            "silent": round(now - self._last) if now - self._last > SILENT else None,
            **self._worth(),
            "newest": [self._shown(answer) for answer in reversed(self._newest)],
        }

    def _worth(self) -> dict[str, Any]:
        if self._whole is None or self.scorer is None or not self._clusters:
            return {"value": None}
        found = estimate(self._whole, (), self._clusters.values())
        summary = self.scorer.summaries()[0]
        about = {"metric": summary.label, "digits": summary.digits}
        return about | {"value": found.value, "low": found.low, "high": found.high}

    def _shown(self, answer: Answer) -> dict[str, Any]:
        sample, score = self._scored(answer)
        shown: list[Image] = [self._store.image(digest) for digest in answer.images]
        if sample is not None and not shown:
            shown = [image for image in sample.images if isinstance(image, Image)]
        return {
            "id": answer.id,
            "reply": (answer.text or "")[:_SHOWN] if answer.error is None else None,
            "error": None if answer.error is None else answer.error[:_SHOWN],
            "value": score.value if score is not None else None,
            "image": next((self.serve(image) for image in shown[:1]), None),
        }


def _quick(scorer: Scorer) -> Scorer | None:
    """A scorer that can look at one answer at a time, by itself: no judge, no features, nothing of a set."""
    alone = type(scorer).prepare is Scorer.prepare and not isinstance(scorer, JudgedScorer)
    return scorer if alone and _mean(scorer) is not None else None


def _mean(scorer: Scorer) -> Accumulator | None:
    made = scorer.summaries()[0].accumulator
    return made if isinstance(made, ClusteredMean) else None


def served(image: Image) -> str | None:
    """The digest by which an image is asked for; None for one that cannot be opened."""
    try:
        return images.digest(image)
    except UserError:
        return None


def splits() -> Splits:
    return Splits(Watcher())
