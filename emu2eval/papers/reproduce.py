"""A published table measured again: what is missing, how long it takes, and the runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from emu2eval.encoders.base import OWN, build_encoder
from emu2eval.engine import judges
from emu2eval.engine.evaluation import Result, Settings, build_adapter, evaluate, open_task, plans
from emu2eval.engine.judging import is_judged
from emu2eval.engine.plan import Plan, Shots, folder_name
from emu2eval.engine.scoring import build_cleaner, build_scorer
from emu2eval.errors import ConfigError, MissingExtra, UserError
from emu2eval.papers.measured import Rebuilt, counterparts, rebuild
from emu2eval.papers.measured import read as read_measured
from emu2eval.papers.published import Paper, PaperColumn, PaperTable
from emu2eval.runs.store import RunStore
from emu2eval.spec.config import ModelSpec, load_model, load_task, parse_settings
from emu2eval.watch import Watcher

PILOT = 8
"""Requests that are timed of every run that nothing is stored of; their answers are kept."""

ANSWER = 20
"""Tokens of an answer for which memory is looked at."""


class NotReady(UserError):
    """What a reproduction needs is not there; names all of it at once."""


@dataclass(frozen=True)
class Wanted:
    """A column with the numbers of shots that the paper has of it; split: the one that is asked."""

    column: PaperColumn
    split: str
    shots: tuple[str, ...]


@dataclass(frozen=True)
class Cost:
    """What a run takes. seconds: a request, as the mean of `timed` stored ones; None where none is."""

    task: str
    split: str
    shots: str
    requests: int
    answered: int
    timed: int
    seconds: float | None

    @property
    def left(self) -> float | None:
        """Seconds still to go."""
        to_ask = self.requests - self.answered
        return 0.0 if not to_ask else None if self.seconds is None else self.seconds * to_ask


def wanted(
    paper: Paper,
    table: PaperTable,
    against: str,
    tasks: Sequence[str] = (),
    *,
    hidden: bool = False,
) -> list[Wanted]:
    """What is to be measured: each column that the published model has a number in, or those of `tasks`.

    hidden: the paper's own split also where its answers are hidden and another one can stand in.
    Raises UnknownName, or ConfigError where nothing is left.
    """
    rows = counterparts(paper, table, against)
    found = []
    for place, column in enumerate(table.columns):
        if tasks and column.task not in tasks:
            continue
        shots = dict.fromkeys(table.shots_of(r) for r in rows if r.values[place] is not None)
        split = column.split if hidden or column.stand_in is None else column.stand_in
        if shots:
            found.append(Wanted(column, split or "", tuple(shots)))
    if not found:
        raise ConfigError(
            f"table {table.id} of {paper.name} has no number of {against} to measure",
            hint=f"its tasks: {', '.join(dict.fromkeys(c.task for c in table.columns))}",
        )
    return found


def missing(
    listed: Sequence[Wanted], model: str, settings: Settings
) -> tuple[list[str], dict[str, list[str]]]:
    """What the model lacks, and what each column lacks by its id: data, encoders, extras, weights, memory."""
    columns = {each.column.id: list(_lacks(each, settings)) for each in listed}
    most = max((_count(shots) for each in listed for shots in each.shots), default=0)
    return list(_model_lacks(model, settings, most)), columns


def _count(shots: str) -> int:
    return int(shots.rstrip("*"))


def _lacks(each: Wanted, settings: Settings) -> Iterator[str]:
    column = each.column
    if column.protocol is None:
        yield f"{column.title}: none of our protocols of {column.task} is the paper's"
        return
    own = replace(settings, shots=each.shots, protocol=column.protocol, split=each.split or None)
    try:
        # Without its data a task is still known, so that all that is wrong is told at once.
        changes = parse_settings(settings.changes)
        task = load_task(
            column.task, protocol=column.protocol, split=own.split, overrides=changes["task"]
        )
    except UserError as error:
        yield str(error)
        return
    for attempt in (
        lambda: open_task(column.task, own, each.shots, Watcher()),
        lambda: build_scorer(task).require(),
        lambda: build_cleaner(task),
        lambda: (
            judges.choose([task], settings.judge, changes["judge"]) if is_judged(task) else None
        ),
    ):
        try:
            attempt()
        except UserError as error:
            yield from map(str, error.parts)
    spec = task.spec.demonstrations
    shown = any(Shots.parse(shots, task).count for shots in each.shots)
    if shown and spec.chooser == "rices":
        from emu2eval.fewshot.rices import ENCODER

        name = str(spec.options.get("encoder", ENCODER))
        try:
            if name != OWN:
                build_encoder(name)
        except UserError as error:
            yield f"the encoder of RICES: {error}"


def _model_lacks(name: str, settings: Settings, shots: int) -> Iterator[str]:
    try:
        spec = load_model(name, overrides=parse_settings(settings.changes)["model"])
    except UserError as error:
        yield str(error)
        return
    there = True
    if spec.adapter == "emu2":
        try:
            there = _emu2_there(spec)
        except UserError as error:
            yield str(error)
            return
        checkpoint = str(spec.settings.get("checkpoint", ""))
        if not there:
            folder = checkpoint.rpartition("/")[2]
            yield (
                f"the weights of {spec.name} ({checkpoint}) are not on this machine\n"
                f"      fetch  hf download {checkpoint} --local-dir {folder}\n"
                f"      then   --set model.settings.checkpoint={folder}"
            )
        try:
            _emu2_fits(spec, shots)
        except UserError as error:
            yield str(error)
    if there:
        try:
            build_adapter(spec)
        except UserError as error:
            yield str(error)


def _emu2_there(spec: ModelSpec) -> bool:
    try:
        from emu2eval.adapters.emu2.checkpoint import at_hand

        return at_hand(str(spec.settings.get("checkpoint", "")))
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "torch", "emu2", why=spec.name) from None


def _emu2_fits(spec: ModelSpec, shots: int) -> None:
    """Raises ModelError, with what would fit, where the model does not."""
    try:
        from emu2eval.adapters.emu2.checkpoint import sizes
        from emu2eval.adapters.emu2.hardware import fits
        from emu2eval.adapters.emu2.memory import prompt_positions
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "torch", "emu2", why=spec.name) from None
    settings = spec.settings
    config = sizes(str(settings.get("checkpoint", "")), settings.get("variant"), spec.name)
    fits(config, settings, prompt_positions(config.n_query, shots, ANSWER), ANSWER)


def ready(
    listed: Sequence[Wanted], model: str, settings: Settings, *, partial: bool = False
) -> tuple[list[Wanted], list[str]]:
    """The columns that can be measured, and what the others lack.

    Raises NotReady with all that is missing; with `partial` only where the model lacks something, or every
    column does.
    """
    of_model, of_columns = missing(listed, model, settings)
    able = [each for each in listed if not of_columns[each.column.id]]
    lacks = list(dict.fromkeys(chain(of_model, *of_columns.values())))
    if lacks and (of_model or not able or not partial):
        hint = None
        if able and not of_model:
            titles = ", ".join(each.column.title for each in able)
            hint = f"--partial measures what can be: {titles}"
        count = "one thing is" if len(lacks) == 1 else f"{len(lacks)} things are"
        told = "\n".join(f"{place}. {text}" for place, text in enumerate(lacks, 1))
        raise NotReady(f"{count} missing:\n{told}", hint=hint)
    return able, lacks


def together(listed: Iterable[Wanted], settings: Settings) -> list[tuple[list[str], Settings]]:
    """Tasks that one evaluation can take, with its settings, so that the model is loaded few times."""
    groups: dict[Settings, list[str]] = {}
    for each in listed:
        task = load_task(each.column.task)
        own = replace(
            settings,
            protocol=each.column.protocol,
            split=each.split if each.split and each.split != task.split else None,
            shots=each.shots,
            # A judge is not named where nobody needs one.
            judge=settings.judge if is_judged(task) else None,
            changes=tuple(settings.changes),
        )
        groups.setdefault(own, []).append(task.name)
    return [(list(dict.fromkeys(tasks)), own) for own, tasks in groups.items()]


def costs(listed: Iterable[Wanted], model: str, settings: Settings) -> list[Cost]:
    """Every run with what is stored of it. Reads the data; asks nothing."""
    found = []
    for tasks, own in together(listed, settings):
        for plan in chain.from_iterable(plans(tasks, [model], own)):
            found.append(_cost(plan, own))
    return found


def _cost(plan: Plan, settings: Settings) -> Cost:
    rows: dict[tuple[str, int], Mapping[str, float]] = {}
    for row in RunStore(settings.folder / folder_name(plan)).rows():
        if not row.get("error"):
            rows[row["id"], row["trial"]] = row
    seconds = sum(row["seconds"] for row in rows.values())
    return Cost(
        plan.task.name,
        plan.task.split,
        plan.shots.label,
        len(plan),
        min(len(rows), len(plan)),
        len(rows),
        seconds / len(rows) if rows else None,
    )


def estimate(
    listed: Sequence[Wanted], model: str, settings: Settings, watcher: Watcher | None = None
) -> list[Cost]:
    """As `costs`, after `PILOT` requests were asked of every run that nothing is stored of."""
    before = {(cost.task, cost.split, cost.shots): cost for cost in costs(listed, model, settings)}
    few = min(PILOT, settings.limit or PILOT)
    untimed = [
        replace(each, shots=shots)
        for each in listed
        if (
            shots := tuple(
                s for s in each.shots if not before[each.column.task, _split(each), s].timed
            )
        )
    ]
    for tasks, own in together(untimed, settings):
        evaluate(tasks, model, settings=replace(own, limit=few, trials=1), watcher=watcher)
    return costs(listed, model, settings) if untimed else list(before.values())


def _split(each: Wanted) -> str:
    return each.split or load_task(each.column.task).split


def measure(
    listed: Sequence[Wanted], model: str, settings: Settings, watcher: Watcher | None = None
) -> list[Result]:
    """Runs what is not yet run. Raises UserError."""
    return [
        result
        for tasks, own in together(listed, settings)
        for result in evaluate(tasks, model, settings=own, watcher=watcher)
    ]


def beside(paper: Paper, table: PaperTable, results: Iterable[Result], against: str) -> Rebuilt:
    """The table with these results beside the numbers of the published model."""
    runs = [read_measured(result.folder, result.rows) for result in results]
    return rebuild(paper, table, runs, against)


def against_of(paper: Paper, table: PaperTable, model: str, against: str | None) -> str:
    """The published model that a model stands against: the one named, else that of its own name.

    Raises UnknownName.
    """
    name = against if against is not None else load_model(model).name
    counterparts(paper, table, name)
    return name
