"""Which model judges a run, and judging and scoring it: between the answers and the rows."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emu2eval.adapters.base import Adapter
from emu2eval.engine.backends.base import Backend
from emu2eval.engine.backends.choose import Where
from emu2eval.engine.cost import estimate, shown
from emu2eval.engine.judging import Judge, Judging, stored_judges
from emu2eval.engine.models import open_model
from emu2eval.engine.questions import Questions
from emu2eval.engine.runner import Tally, execute
from emu2eval.engine.scoring import score_run
from emu2eval.engine.spending import Spending
from emu2eval.engine.tasks import OpenTask
from emu2eval.errors import ConfigError, raise_together
from emu2eval.runs.record import Record
from emu2eval.runs.store import RunStore
from emu2eval.spec import catalog
from emu2eval.spec.changes import Changes
from emu2eval.types import Row
from emu2eval.watch import Watcher

HOSTED = "openai"
"""The shipped model whose server a judge is taken to be on that is named by nothing but its name there."""


def load_judge(name: str, overrides: Mapping[str, Any]) -> Judge:
    """A judge by the name or path of a model, or by what OpenAI calls it (gpt-4-0613).

    Raises UserError, also where the judge lacks something, such as its key.
    """
    known = catalog.names("model")
    if name in known or catalog.is_path(name) or difflib.get_close_matches(name, known, 1, 0.8):
        model = open_model(name, Changes(model=dict(overrides)))
    else:
        model = open_model(HOSTED, Changes(model={"settings.model": name, **overrides}))
    raise_together(model.adapter.lacks())
    if "text" not in model.adapter.limits.outputs:
        raise ConfigError(
            f"{model.spec.name} does not produce text, so it cannot judge", where="--judge"
        )
    return Judge.of(model.spec, model.adapter)


def choose_judge(
    tasks: Sequence[OpenTask], name: str | None, overrides: Mapping[str, Any]
) -> Judge | None:
    """The judge of these tasks; None where none needs one.

    Raises ConfigError where one is needed and none is named, or one is named that nothing needs.
    """
    if name is None:
        needed = [task.name for task in tasks if task.needs_judge]
        if needed:
            raise ConfigError(
                f"{' and '.join(dict.fromkeys(needed))} needs a judge, but none is given",
                hint="\n         ".join(
                    [
                        "--judge gpt-4-0613 (or another model of OpenAI; needs OPENAI_API_KEY)",
                        "--judge path.yaml (any model file)",
                        "--judge openai-compatible --set judge.settings.base_url=… "
                        "--set judge.settings.model=…",
                    ]
                ),
            )
        return None
    if not any(task.judged for task in tasks):
        raise ConfigError(
            f"{' and '.join(dict.fromkeys(task.name for task in tasks))} is scored without a judge",
            where="--judge",
        )
    return load_judge(name, overrides)


def stored_judge(task: OpenTask, folder: Path) -> Judge | None:
    """The judge whose replies a run's folder holds; None where there is none and none is needed.

    Raises ConfigError where there is not exactly one.
    """
    found = stored_judges(folder)
    if len(found) == 1:
        return found[0]
    if not found:
        return choose_judge([task], None, {})  # says what the choices are, where one is needed
    names = " and ".join(judge.folder for judge in found)
    raise ConfigError(
        f"this run has replies from several judges: {names}",
        where=folder,
        hint="choose one: "
        + " or ".join(dict.fromkeys(f"--judge {judge.name}" for judge in found)),
    )


class Scoring:
    """Scores runs, and asks the judge first where there is one.

    Without a judge nobody is asked; what one said of a run before is scored all the same.
    """

    def __init__(self, judge: Judge | None, watcher: Watcher, where: Where | None = None):
        self.judge = judge
        self.watcher = watcher
        self._backend: Backend | None = None
        self.apart = False
        """Whether the judge wants the devices that the evaluated models have."""
        if judge is not None and judge.adapter is not None and judge.spec is not None:
            loads = type(judge.adapter).load is not Adapter.load
            self.apart = where is not None and not where.here and judge.adapter.replicable and loads
            at = where if where is not None and self.apart else Where()
            self._backend = at.backend(judge.spec, judge.adapter, watcher)

    def __enter__(self) -> Scoring:
        return self

    def __exit__(self, *error: object) -> None:
        if self._backend is not None:
            self._backend.close()

    def __call__(
        self, record: Record, questions: Questions, store: RunStore
    ) -> tuple[list[Row], Tally, Mapping[str, int]]:
        """The rows of a run, what was asked of the judge, and what it said in vain.

        Raises PlanError beyond the judge's budget.
        """
        working = self.watcher.working
        if questions.task.judged is None:
            return score_run(record, questions, store, progress=working), Tally(), {}
        judge = self.judge or stored_judge(questions.task, store.folder)
        if judge is None:
            return score_run(record, questions, store, progress=working), Tally(), {}
        judging = Judging(questions, store, judge)
        with judging.open(writing=self._backend is not None):
            tally = self._ask(judging)
            rows = score_run(record, questions, store, judging, working)
            return rows, tally, judging.unread

    def _ask(self, judging: Judging) -> Tally:
        """Asks for all that is not yet said, and again for what cannot be read, and tells how much it is."""
        total = Tally()
        if self._backend is None:
            return total
        with judging.spending() as spending:
            return self._ask_all(judging, spending)

    def _ask_all(self, judging: Judging, spending: Spending) -> Tally:
        total = Tally()
        for count in judging.attempts():
            cost = estimate(judging, judging.replies)
            if cost is not None and cost.requests:
                again = " again, because replies could not be parsed" if judging.attempt else ""
                self.watcher.note(f"{judging.name}, judging{again}: {shown(cost)}")
                if not judging.attempt:
                    judging.adapter.afford(cost)
            self.watcher.judging(judging.name, count)
            total += execute(
                judging,
                judging.replies,
                self._backend,
                exact=False,
                progress=spending.telling(self.watcher.settled),
                stopping=self.watcher.stopping,
            )
        return total
