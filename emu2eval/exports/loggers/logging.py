"""A watcher that feeds loggers, each on a thread of its own: what fails there never reaches the run."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextvars import copy_context
from functools import partial
from pathlib import Path
from queue import Queue
from threading import Thread

from emu2eval.engine.questions import Place
from emu2eval.engine.reopen import reopen
from emu2eval.errors import UserError, printable
from emu2eval.exports.loggers.base import LoggedRun, LoggedSample, RunLogger
from emu2eval.exports.results import results
from emu2eval.exports.stored import StoredRows
from emu2eval.media import images
from emu2eval.runs.record import read_record
from emu2eval.runs.scores import read_rows, read_scores
from emu2eval.spec.secrets import scrubbed
from emu2eval.types import Image, Video
from emu2eval.watch import RunEnd, RunningScore, RunStart, Watcher

SAMPLES = 8
"""Of a run, spread evenly over it."""

SIDE = 384
"""Pixels of the longer side of an image that is logged."""

PATIENCE = 60.0
"""Seconds that the end of an evaluation waits for a logger."""

IMPATIENCE = 5.0
"""The same where it was stopped."""


class Logging(Watcher):
    """Hands what it hears to loggers. note: told, once each, of a logger that fails and is left alone."""

    follows_scores = True

    def __init__(self, loggers: Sequence[RunLogger], note: Callable[[str], None]):
        self._lines = [_Line(logger) for logger in loggers]
        self._note = note

    def __enter__(self) -> Logging:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        for line in self._lines:
            line.end(PATIENCE if kind is None else IMPATIENCE)
        self._tell()

    def starting(self, run: RunStart) -> None:
        self._each(lambda logger: logger.start(_logged(run)))

    def scored(self, running: RunningScore) -> None:
        numbers = {"settled": float(running.settled), "failed": float(running.failed)}
        if running.value is not None:
            numbers[f"running/{running.metric.replace('/', '-')}"] = running.value
        self._each(lambda logger: logger.log(running.settled, numbers))

    def finished(self, run: RunEnd) -> None:
        def finish(logger: RunLogger) -> None:
            stored = StoredRows(run.folder, read_record(run.folder), read_rows(run.folder))
            (result,) = results([stored]).runs
            logger.finish(result, list(samples(run.folder)))

        self._each(finish)

    def _each(self, call: Callable[[RunLogger], None]) -> None:
        for line in self._lines:
            line.put(call)
        self._tell()

    def _tell(self) -> None:
        for line in self._lines:
            if (said := line.said()) is not None:
                self._note(said)


class _Line:
    """A logger and its thread, a daemon: one that hangs is left behind."""

    def __init__(self, logger: RunLogger):
        self.logger = logger
        self._queue: Queue[Callable[[RunLogger], None] | None] = Queue()
        self._why: str | None = None
        self._told = False
        # With whose code may be named, among others.
        work = partial(copy_context().run, self._work)
        self._thread = Thread(target=work, name=f"log-{logger.name}", daemon=True)
        self._thread.start()

    def put(self, call: Callable[[RunLogger], None]) -> None:
        if self._why is None:
            self._queue.put(call)

    def end(self, patience: float) -> None:
        self._queue.put(None)
        self._thread.join(patience)
        if self._thread.is_alive() and self._why is None:
            self._why = f"it did not finish within {patience:.0f} seconds"

    def said(self) -> str | None:
        """What to tell of it, once."""
        if self._why is None or self._told:
            return None
        self._told = True
        return f"--log {self.logger.name} failed and is disabled; the run continues: {self._why}"

    def _work(self) -> None:
        calls = iter(self._queue.get, None)
        try:
            for call in calls:
                call(self.logger)
            self.logger.close()
        except BaseException as error:  # whatever a tracker raises, SystemExit included
            text = " ".join(str(error).split())[:300]
            self._why = printable(scrubbed(f"{type(error).__name__}: {text}"))


def _logged(run: RunStart) -> LoggedRun:
    record = read_record(run.folder)
    config = {
        "task": record.task.name,
        "task_version": record.identity.task.version,
        "split": record.task.split,
        "protocol": record.task.protocol,
        "model": record.model.name,
        "adapter": record.model.adapter,
        "settings": record.model.settings,
        "shots": str(record.shots),
        "ablation": record.ablation,
        "seed": record.seed,
        "trials": record.extent.trials,
        "limit": record.extent.limit,
        "changes": list(record.changes.assignments()),
        "fingerprint": record.fingerprint,
        "requests": run.requests,
        "versions": record.versions,
    }
    return LoggedRun(run.folder.name, run.task, run.model, config)


def samples(folder: Path) -> Iterator[LoggedSample]:
    """A few of a scored run, spread evenly; none where its data is not what it was."""
    try:
        run = reopen(folder)
    except UserError:
        return
    scores = [score for score in read_scores(folder) if not score.trial and not score.take]
    chosen = scores[:: max(1, len(scores) // SAMPLES)][:SAMPLES]
    with run.index() as store:
        for score in chosen:
            position = run.questions.samples.position(score.id)
            if position is None:
                continue
            sample = run.questions.query(position)
            answer = store.stored(run.questions.slot(Place(position)))
            response = store.response(answer) if answer is not None else None
            given = response.text if response is not None else None
            yield LoggedSample(
                id=sample.id,
                question=" ".join(sample.fields.values()),
                answer=given if given is not None else score.prediction or "",
                references=" | ".join(each for each in sample.references if isinstance(each, str)),
                value=score.value,
                why=score.why,
                images=_small(sample.images),
                drawn=_small(response.images if response is not None else ()),
            )


def _small(shown: Sequence[Image | Video]) -> tuple[bytes, ...]:
    """The images as PNG, at most `SIDE` pixels; a video by its first frame."""
    found = []
    for each in shown:
        image = each if isinstance(each, Image) else each.frames[0]
        try:
            pixels = images.load(image).convert("RGB")
        except UserError:
            continue
        pixels.thumbnail((SIDE, SIDE))
        buffer = io.BytesIO()
        pixels.save(buffer, "PNG")
        found.append(buffer.getvalue())
    return tuple(found)
