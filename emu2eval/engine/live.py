"""The number of a run while it goes on: each answer is scored as it comes, for whoever follows it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import monotonic

from emu2eval.engine.plan import Plan
from emu2eval.engine.scoring import response_of
from emu2eval.runs.answers import Answer
from emu2eval.runs.store import RunStore
from emu2eval.scorers.base import Scorer
from emu2eval.watch import RunningScore

EVERY = 1.0
"""Seconds between two tellings."""


class Live:
    """Told each answer once. A number that a judge gives, or that needs all answers at once, has no value
    before the end; nor has one whose scorer stumbles, which the scoring of the run then tells."""

    def __init__(
        self, plan: Plan, store: RunStore, folder: Path, tell: Callable[[RunningScore], None]
    ):
        self.plan = plan
        self.store = store
        self.folder = folder
        self.tell = tell
        scorer = plan.task.scorer
        self.summary = scorer.summaries()[0]
        self.able = plan.task.judged is None and type(scorer).prepare is Scorer.prepare
        self.count = 0
        self.failed = 0
        self._last = monotonic()

    def kept(self) -> None:
        """Takes what was answered before."""
        questions = self.plan.questions
        for place in questions:
            slot = questions.slot(place)
            answer = self.store.stored(slot)
            if answer is not None and answer.error is None:
                self(slot, answer)

    def __call__(self, slot: int, answer: Answer) -> None:
        self.count += 1
        self.failed += answer.error is not None
        if self.able:
            try:
                self._score(slot, answer)
            except Exception:
                self.able = False
        if monotonic() - self._last >= EVERY:
            self.now()

    def now(self) -> None:
        """Tells what there is."""
        self._last = monotonic()
        value = self.summary.accumulator.value() if self.able else None
        self.tell(RunningScore(self.folder, self.summary.label, value, self.count, self.failed))

    def _score(self, slot: int, answer: Answer) -> None:
        response = response_of(answer, self.plan.task.clean, self.store)
        if response is None:
            return
        position = self.plan.questions.place(slot).position
        sample = self.plan.questions.query(position)
        score = self.plan.task.scorer.score(sample, response)
        if score.value is not None:
            self.summary.accumulator.add(sample, score)
