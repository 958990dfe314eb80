"""Told how things get on: the one seam to progress bars, notebooks and logs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RunStart:
    """What is about to be asked. requests: in all, those that are answered already included."""

    task: str
    model: str
    shots: str
    requests: int
    folder: Path


@dataclass(frozen=True, slots=True)
class AskedAgain:
    """Batches that failed and were asked again in smaller ones or one by one, which costs time.

    error: the type of what was raised; why: what the first one said, with its type.
    """

    error: str
    why: str
    batches: int


@dataclass(frozen=True, slots=True)
class RunEnd:
    """What was done. kept: answered before; copied: equal to an answered one; judged: asked of a judge;
    again: batches that were asked again, by the type of what they raised.
    """

    folder: Path
    asked: int
    kept: int
    copied: int
    failed: int
    judged: int
    again: tuple[AskedAgain, ...] = ()


@dataclass(frozen=True, slots=True)
class RunningScore:
    """What a run has come to so far. metric: its whole name; value: on the metric's scale, None where nothing
    is scored yet, or the number is made of all answers together.

    settled: requests with an answer or an error; failed: those with an error.
    """

    folder: Path
    metric: str
    value: float | None
    settled: int
    failed: int


@dataclass(frozen=True, slots=True)
class ReplicasState:
    """How many processes run the model. wanted: in all; up: at work; gone: given up; the others start."""

    wanted: int
    up: int
    gone: int = 0


class Watcher:
    """Override the events that you need; does nothing by itself. Called on the evaluating thread."""

    follows_scores = False
    """Whether it wants to hear of scores while a run goes on, which scores each answer once more."""

    def reading(self, what: str) -> None:
        """Files of a benchmark are about to be read."""

    def working(self, what: str, done: int, total: int) -> None:
        """Lengthy work other than requests, such as computing features of images."""

    def loading(self, model: str) -> None:
        """Weights are about to be read."""

    def replicas(self, state: ReplicasState) -> None:
        """A replica of the model has come up, was lost or was given up."""

    def starting(self, run: RunStart) -> None:
        """The requests of a run come next."""

    def judging(self, judge: str, requests: int) -> None:
        """The requests to a judge come next."""

    def settled(self, count: int) -> None:
        """This many more requests of the run, or of the judge, have an answer or an error."""

    def scored(self, running: RunningScore) -> None:
        """What the run has come to, every second or so, where `follows_scores`."""

    def stopping(self, seconds: float) -> None:
        """The user has stopped the run; what is under way is waited for, for so long at most."""

    def finished(self, run: RunEnd) -> None:
        """A run is scored."""

    def note(self, text: str) -> None:
        """A message for the user."""


class Watchers(Watcher):
    """Tells several, in their order."""

    def __init__(self, *watchers: Watcher):
        self.watchers = watchers
        self.follows_scores = any(each.follows_scores for each in watchers)

    def reading(self, what: str) -> None:
        for each in self.watchers:
            each.reading(what)

    def working(self, what: str, done: int, total: int) -> None:
        for each in self.watchers:
            each.working(what, done, total)

    def loading(self, model: str) -> None:
        for each in self.watchers:
            each.loading(model)

    def replicas(self, state: ReplicasState) -> None:
        for each in self.watchers:
            each.replicas(state)

    def starting(self, run: RunStart) -> None:
        for each in self.watchers:
            each.starting(run)

    def judging(self, judge: str, requests: int) -> None:
        for each in self.watchers:
            each.judging(judge, requests)

    def settled(self, count: int) -> None:
        for each in self.watchers:
            each.settled(count)

    def scored(self, running: RunningScore) -> None:
        for each in self.watchers:
            if each.follows_scores:
                each.scored(running)

    def stopping(self, seconds: float) -> None:
        for each in self.watchers:
            each.stopping(seconds)

    def finished(self, run: RunEnd) -> None:
        for each in self.watchers:
            each.finished(run)

    def note(self, text: str) -> None:
        for each in self.watchers:
            each.note(text)
