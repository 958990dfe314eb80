"""What a run would cost, before it starts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from emu2eval.adapters.base import Adapter, Cost, of_adapter
from emu2eval.engine.judging import Judge, Judging
from emu2eval.engine.plan import Plan, Planned
from emu2eval.engine.planned import PlannedRun
from emu2eval.engine.spending import said
from emu2eval.engine.work import Work
from emu2eval.runs.store import RunStore
from emu2eval.types import Used

LOOKED_AT = 2048
"""Requests that an estimate looks at."""


def estimate(work: Work, store: RunStore) -> Cost | None:
    """Of the requests that the store does not answer yet; None where the model does not tell.

    Of more than `LOOKED_AT` places, that many are looked at, spread over all, and the sum is scaled.
    """
    if type(work.adapter).cost is Adapter.cost:
        return None
    total = Cost()
    asked: set[str] = set()
    places, scale = _looked_at(work)
    for planned in places:
        key = planned.request.key
        if key in asked or store.has(planned.slot, key) or store.twin(key) is not None:
            continue
        asked.add(key)
        with of_adapter(work.adapter):
            total += work.adapter.cost(planned.request) or Cost()
    return total if scale == 1 else total.times(scale)


def _looked_at(work: Work) -> tuple[Iterable[Planned], float]:
    if not isinstance(work, Plan) or len(work) <= LOOKED_AT:
        return work, 1
    every = list(islice(work.questions, 0, None, -(-len(work) // LOOKED_AT)))
    return map(work.at, every), len(work) / len(every)


def shown(cost: Cost) -> str:
    """For a person to read.

    >>> shown(Cost(1200, 3_400_000, 12_000, 1.25))
    'about 1,200 requests, 3,400,000 tokens read, at most 12,000 written, 1.25 in money'
    """
    text = (
        f"about {cost.requests:,} requests, {cost.tokens_in:,} input tokens, "
        f"at most {cost.tokens_out:,} output tokens"
    )
    return text if cost.money is None else f"{text}, cost {cost.money:,.2f}"


@dataclass(frozen=True)
class Estimated:
    """What is still to be asked of an adapter would cost. who: a model, or a judge."""

    who: str
    adapter: Adapter | None
    cost: Cost
    more: str = ""

    @property
    def line(self) -> str:
        return f"{self.who}: {shown(self.cost)}{self.more}"

    def beside(self, used: Used) -> str:
        """What it really was, and what was thought."""
        return f"{self.who}, used: {said(used)} (the estimate was {shown(self.cost)}{self.more})"


def costs(groups: Sequence[Sequence[PlannedRun]]) -> list[Estimated]:
    """What is still to be asked would cost, one a model and a judge, where they tell.

    groups: the runs of each model. Raises PlanError where that is beyond a budget.
    """
    told: list[Estimated] = []
    judging: dict[int, tuple[Judge, Cost]] = {}
    for group in groups:
        plain = type(group[0].plan.adapter).cost is Adapter.cost
        total: Cost | None = None
        for run in group:
            judge, plan = run.judge, run.plan
            if plain and judge is None:
                continue
            with peek(run) as store:
                cost = estimate(plan, store)
                if cost is not None and (part := run.options.part) is not None:
                    cost = cost.times(1 / part.of)
                total = total + cost if total and cost else total or cost
                if judge is not None and plan.task.judged is not None:
                    more = _outlook(Judging(plan.questions, store, judge))
                    if more is not None:
                        _, before = judging.get(id(judge), (judge, Cost()))
                        judging[id(judge)] = judge, before + more
        if total is not None and total.requests:
            adapter = group[0].plan.adapter
            told.append(Estimated(group[0].plan.name, adapter, total))
            adapter.afford(total)
    for judge, cost in judging.values():
        if not cost.requests:
            continue
        said_of = f"{judge.name}, judging"
        told.append(Estimated(said_of, judge.adapter, cost, ", assuming answers of maximum length"))
        if judge.adapter is not None:
            # How long answers are is not known yet; how many, is.
            judge.adapter.afford(Cost(cost.requests))
    return told


def peek(run: PlannedRun) -> RunStore:
    """The store of a run, for reading what is there already."""
    store = RunStore(run.folder)
    store.index(run.plan.questions.slot_of, run.plan.questions.slots)
    return store


def _outlook(judging: Judging) -> Cost | None:
    """An estimate of judging before there are answers, each taken to be as long as the task allows."""
    judging.assume_longest()
    with judging.open(writing=False) as replies:
        return estimate(judging, replies)
