"""Which model judges a run, and the judging itself: between the answers and the scores."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from emu2eval import registry
from emu2eval.adapters.base import Absent, Adapter
from emu2eval.engine.cost import estimate, shown
from emu2eval.engine.judging import Hearing, Judge, is_judged, needs_judge, stored
from emu2eval.engine.plan import Plan
from emu2eval.engine.runner import Once, Tally
from emu2eval.engine.scoring import score_run
from emu2eval.errors import ConfigError
from emu2eval.runs.store import RunStore
from emu2eval.spec import catalog
from emu2eval.spec.config import Task, load_model
from emu2eval.types import Row
from emu2eval.watch import Watcher

HOSTED = "openai"
"""The shipped model whose server a judge is taken to be on that is named by nothing but its name there."""


def load_judge(name: str, overrides: Mapping[str, Any]) -> Judge:
    """A judge by the name or path of a model, or by what OpenAI calls it (gpt-4-0613). Raises UserError."""
    known = catalog.names("model")
    if name in known or catalog.is_path(name) or difflib.get_close_matches(name, known, 1, 0.8):
        model = load_model(name, overrides=overrides)
    else:
        model = load_model(HOSTED, overrides={"settings.model": name, **overrides})
    adapter: Adapter = registry.build("adapter", model.adapter, model.settings, where=model.name)
    if "text" not in adapter.limits.outputs:
        raise ConfigError(f"{model.name} gives no texts, so it cannot judge", where="--judge")
    return Judge.of(model, adapter)


def choose(tasks: Sequence[Task], name: str | None, overrides: Mapping[str, Any]) -> Judge | None:
    """The judge of these tasks; None where none needs one.

    Raises ConfigError where one is needed and none is named, or one is named that nothing needs.
    """
    judged = [task.name for task in tasks if is_judged(task)]
    if name is None:
        needed = [task.name for task in tasks if needs_judge(task)]
        if needed:
            raise ConfigError(
                f"{' and '.join(dict.fromkeys(needed))} is scored by a judge, and none is named",
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
    if not judged:
        raise ConfigError(
            f"{' and '.join(dict.fromkeys(task.name for task in tasks))} is scored without a judge",
            where="--judge",
        )
    return load_judge(name, overrides)


def stored_judge(task: Task, folder: Path) -> Judge | None:
    """The judge whose replies a run's folder holds; None where there is none and none is needed.

    Raises ConfigError where there is not exactly one.
    """
    found = stored(folder, Absent())
    if len(found) == 1:
        return found[0]
    if not found:
        return choose([task], None, {})  # says what the choices are, where one is needed
    names = " and ".join(judge.folder for judge in found)
    raise ConfigError(
        f"this run holds replies of several judges: {names}",
        where=folder,
        hint="name the one to score by: --judge NAME",
    )


Hear = Callable[[Plan, RunStore], tuple[list[Row], Tally]]
"""Judges a run where its task wants that, and scores it."""


def hearer(judge: Judge | None, told: Watcher, opened: ExitStack) -> Hear:
    """What judges and scores runs; `opened` closes the judge. Raises PlanError beyond its budget.

    Without a judge nobody is asked; what one said of a run before is scored all the same.
    """
    if judge is None:
        return lambda plan, store: (_scored(plan, store, told), Tally())
    name = judge.model.name
    opened.enter_context(closing(judge.adapter))
    load = Once(judge.adapter, lambda: told.loading(name))

    def hear(plan: Plan, store: RunStore) -> tuple[list[Row], Tally]:
        if not is_judged(plan.task):
            return score_run(plan, store, progress=told.working), Tally()
        hearing = Hearing(plan, store, judge)
        with hearing.open(writing=True):
            cost = estimate(hearing, hearing.replies)
            if cost is not None and cost.requests:
                told.note(f"{name}, judging: {shown(cost)}")
                judge.adapter.afford(cost)
            told.judging(name, len(hearing))
            tally = hearing.hear(load, told.settled)
            return score_run(plan, store, hearing, told.working), tally

    return hear


def _scored(plan: Plan, store: RunStore, told: Watcher) -> list[Row]:
    judge = stored_judge(plan.task, store.folder) if is_judged(plan.task) else None
    if judge is None:
        return score_run(plan, store, progress=told.working)
    hearing = Hearing(plan, store, judge)
    with hearing.open(writing=False):
        return score_run(plan, store, hearing, told.working)
