"""A stored run, opened again from its record alone, without the model; and scored anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from emu2eval.engine.judges import Scoring, choose_judge
from emu2eval.engine.options import AnyScorer, with_scorer
from emu2eval.engine.plan import task_record
from emu2eval.engine.prompting import Prompts
from emu2eval.engine.questions import Questions, questions_of
from emu2eval.engine.results import Result
from emu2eval.engine.runner import Tally
from emu2eval.engine.splits import Splits
from emu2eval.engine.supplies import bring
from emu2eval.engine.tasks import opened, recorded_task, unknown_prompts
from emu2eval.errors import StoreError
from emu2eval.runs.record import Record, read_record, write_record
from emu2eval.runs.store import RunStore
from emu2eval.spec.changes import Changes
from emu2eval.watch import Watcher


@dataclass(frozen=True)
class Reopened:
    """A stored run. prompts: None unless they were asked for."""

    record: Record
    questions: Questions
    store: RunStore
    prompts: Prompts | None = None

    def index(self) -> RunStore:
        """The store, read as far as its answers fit the questions."""
        self.store.index(self.questions.slot_of, self.questions.slots)
        return self.store


def reopen(
    folder: Path,
    changes: Changes | None = None,
    *,
    demonstrations: bool = False,
    splits: Splits | None = None,
) -> Reopened:
    """A stored run with its questions, and with its prompts where demonstrations are wanted.

    changes: of `task.score`. splits: what was read for other runs, which is not read again. Raises StoreError
    where the folder is no run, or its data is not what it was; PlanError for the prompts of answers that were
    given elsewhere.
    """
    store, record = RunStore(folder), read_record(folder)
    task = opened(recorded_task(record, changes), scorer_needed=False)
    data = splits if splits is not None else Splits(Watcher())
    if demonstrations and record.imported is not None:
        raise unknown_prompts(record.imported.origin, folder)
    samples = data.split(task, task.split, shots=record.shots.count)
    shown = demonstrations and record.shots.count
    left_out = record.left_out
    pool, chooser = None, None
    if shown:
        pool, chooser = data.chooser(task, record.seed, left_out.demonstrations)
    known = record.identity.data
    for now, then in ((samples, known.queries), (pool, known.demonstrations)):
        if now is not None and now.digest != then:
            raise StoreError(
                f"the data of {task.name} has changed since this run",
                where=task.task.root,
                hint="restore the old data, or rerun the evaluation on the new data",
            )
    # One that looks through the model cannot be asked without it.
    chosen_by = chooser.identity() if chooser and not chooser.looks_through_model else None
    if chosen_by is not None and dict(chosen_by) != known.chooser:
        raise StoreError(
            f"the images or encoder used to choose demonstrations of {task.name} have changed since this "
            "run, so different ones would be shown",
            where=folder,
            hint="restore the old images and encoder, or rerun the evaluation",
        )
    only = store.ids() if record.imported is not None else None
    questions = questions_of(
        task, samples, record.shots, record.extent, only, left_out.queries, record.sampled
    )
    prompts = None
    if demonstrations:
        prompts = Prompts(questions, record.shots, pool, chooser, record.seed, record.ablation)
    return Reopened(record, questions, store, prompts)


def score_again(
    folder: str | Path,
    changes: Changes | Mapping[str, Any] | None = None,
    *,
    judge: str | None = None,
    scorer: AnyScorer | None = None,
    watcher: Watcher | None = None,
) -> Result:
    """Scores a stored run anew, without its model. Raises UserError.

    changes: of the task's scoring, such as {"task": {"score": {"options": {"normalise": True}}}}.
    judge: a judge to use; by default the one whose replies are stored, without new requests. scorer:
    used instead of the run's; can be a function (prediction, references) -> float.
    """
    folder, told = Path(folder), watcher or Watcher()
    changed = with_scorer(Changes.of(changes or {}), scorer)
    run = reopen(folder, changed)
    task = run.questions.task
    bring([task.scoring], told)
    chosen = choose_judge([task], judge, changed.judge) if judge is not None else None
    record = msgspec.structs.replace(
        run.record,
        task=msgspec.structs.replace(run.record.task, spec=task_record(task).spec),
        changes=_before(run.record.changes, changed).merged(changed),
    )
    with run.store.open_for_writing(), Scoring(chosen, told) as scoring:
        run.index()
        rows, judged, unread = scoring(record, run.questions, run.store)
        if record != run.record:
            # What is compared or shown later is what was scored last.
            write_record(folder, record)
    return Result(rows, folder, Tally(kept=len(run.questions)), judged, unread)


def _before(known: Changes, now: Changes) -> Changes:
    """What was set before and still holds: the options of another scorer do not."""
    if "score.scorer" not in now.task:
        return known
    kept = {k: v for k, v in known.task.items() if not k.startswith("score.options")}
    return msgspec.structs.replace(known, task=kept)
