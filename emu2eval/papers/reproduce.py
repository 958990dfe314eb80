"""A published table measured again: what is missing, how long it takes, and the runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import msgspec

from emu2eval.data.samples import Samples
from emu2eval.engine.evaluation import plans, run_all
from emu2eval.engine.judges import choose_judge
from emu2eval.engine.models import open_model
from emu2eval.engine.options import RunOptions
from emu2eval.engine.outlook import RunEstimate, run_estimate
from emu2eval.engine.planned import PlannedRun
from emu2eval.engine.results import Result
from emu2eval.engine.tasks import OpenTask, described, open_task, opened
from emu2eval.errors import ConfigError, UserError, of_part
from emu2eval.papers.published import Paper, PaperColumn, PaperTable
from emu2eval.papers.rebuild import Rebuilt, counterparts, measured_run, rebuild
from emu2eval.spec.changes import Changes
from emu2eval.spec.model import load_model
from emu2eval.spec.task import load_task
from emu2eval.watch import Watcher

PILOT = 8
"""Requests that are timed of every run that nothing is stored of; their answers are kept."""


class NotReady(UserError):
    """What a reproduction needs is not there; names all of it at once."""


@dataclass(frozen=True)
class WantedColumn:
    """A column with the numbers of shots that the paper has of it; split: the one that is asked."""

    column: PaperColumn
    split: str
    shots: tuple[str, ...]


def wanted(
    paper: Paper,
    table: PaperTable,
    against: str,
    tasks: Sequence[str] = (),
    *,
    hidden: bool = False,
) -> list[WantedColumn]:
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
            found.append(WantedColumn(column, split or "", tuple(shots)))
    if not found:
        raise ConfigError(
            f"table {table.id} of {paper.name} has no number for {against} that can be measured",
            hint=f"its tasks: {', '.join(dict.fromkeys(c.task for c in table.columns))}",
        )
    return found


def missing(
    listed: Sequence[WantedColumn], model: str, options: RunOptions
) -> tuple[list[str], dict[str, list[str]]]:
    """What the model lacks, and what each column lacks by its id: data, encoders, extras, weights, memory."""
    columns = {each.column.id: _texts(_lacks(each, options)) for each in listed}
    return _texts(_model_lacks(model, options)), columns


def _texts(errors: Iterable[UserError]) -> list[str]:
    return [str(part) for error in errors for part in error.parts]


def _lacks(each: WantedColumn, options: RunOptions) -> Iterator[UserError]:
    column = each.column
    if column.protocol is None:
        yield ConfigError(f"{column.title}: no protocol of {column.task} matches the paper's")
        return
    split, changes = each.split or None, _changes(column, options)
    try:
        # A task is known without its data, so that everything missing is reported at once.
        task = opened(described(column.task, changes, protocol=column.protocol, split=split))
    except UserError as error:
        yield error
        return
    yield from _raised(
        lambda: open_task(
            column.task,
            changes,
            shots=each.shots,
            protocol=column.protocol,
            split=split,
            source=options.source,
        )
    )
    yield from task.scorer.lacks()
    if task.judged is not None:
        yield from _raised(lambda: choose_judge([task], options.judge, changes.judge))
    yield from _found(lambda: _chooser_lacks(task, each.shots))


def _changes(column: PaperColumn, options: RunOptions) -> Changes:
    """What is set: as the paper did it, then by the user."""
    return Changes.of(list(column.set)).merged(options.changes)


def _chooser_lacks(task: OpenTask, shots: Sequence[str]) -> list[UserError]:
    if not any(task.shots(each).count for each in shots):
        return []
    with of_part("chooser", task.spec.demonstrations.chooser):
        return task.chooser(Samples.none(), 0).lacks()


def _model_lacks(name: str, options: RunOptions) -> Iterator[UserError]:
    return _found(lambda: open_model(name, options.changes, options.device).adapter.lacks())


def _found(look: Callable[[], Iterable[UserError]]) -> Iterator[UserError]:
    """What is found missing, and what is raised where it is looked for."""
    try:
        yield from look()
    except UserError as error:
        yield error


def _raised(attempt: Callable[[], object]) -> Iterator[UserError]:
    try:
        attempt()
    except UserError as error:
        yield error


def ready(
    listed: Sequence[WantedColumn], model: str, options: RunOptions, *, partial: bool = False
) -> tuple[list[WantedColumn], list[str]]:
    """The columns that can be measured, and what the others lack.

    Raises NotReady with all that is missing; with `partial` only where the model lacks something, or every
    column does.
    """
    of_model, of_columns = missing(listed, model, options)
    able = [each for each in listed if not of_columns[each.column.id]]
    lacks = list(dict.fromkeys(chain(of_model, *of_columns.values())))
    if lacks and (of_model or not able or not partial):
        hint = None
        if able and not of_model:
            titles = ", ".join(each.column.title for each in able)
            hint = f"to measure what is possible: --partial ({titles})"
        count = "one thing is" if len(lacks) == 1 else f"{len(lacks)} things are"
        listing = "\n".join(f"{place}. {text}" for place, text in enumerate(lacks, 1))
        raise NotReady(f"{count} missing:\n{listing}", hint=hint)
    return able, lacks


def together(
    listed: Iterable[WantedColumn], options: RunOptions
) -> list[tuple[list[str], RunOptions]]:
    """Tasks that one evaluation can take, with its options, so that the model is loaded few times."""
    groups: list[tuple[list[str], RunOptions]] = []
    for each in listed:
        changes = _changes(each.column, options)
        task = opened(described(each.column.task, changes, protocol=each.column.protocol))
        own = msgspec.structs.replace(
            options,
            changes=changes,
            protocol=each.column.protocol,
            split=each.split if each.split and each.split != task.split else None,
            shots=each.shots,
            # A judge is not named where nobody needs one.
            judge=options.judge if task.judged is not None else None,
        )
        known = next((tasks for tasks, others in groups if others == own), None)
        if known is None:
            groups.append(([task.name], own))
        elif task.name not in known:
            known.append(task.name)
    return groups


def costs(listed: Iterable[WantedColumn], model: str, options: RunOptions) -> list[RunEstimate]:
    """Every run with what is stored of it. Reads the data; asks nothing."""
    return [
        run_estimate(PlannedRun(plan, own))
        for tasks, own in together(listed, options)
        for plan in chain.from_iterable(plans(tasks, [model], own))
    ]


def estimate(
    listed: Sequence[WantedColumn], model: str, options: RunOptions, watcher: Watcher | None = None
) -> list[RunEstimate]:
    """As `costs`, after `PILOT` requests were asked of every run that nothing is stored of."""
    before = costs(listed, model, options)
    timed = {(each.task, each.split, str(each.shots)) for each in before if each.timed}
    untimed = []
    for each in listed:
        where = each.column.task, each.split or load_task(each.column.task).split
        shots = tuple(shots for shots in each.shots if (*where, shots) not in timed)
        if shots:
            untimed.append(replace(each, shots=shots))
    few = min(PILOT, options.limit) if isinstance(options.limit, int) else PILOT
    for tasks, own in together(untimed, options):
        run_all(tasks, [model], msgspec.structs.replace(own, limit=few, trials=1), watcher)
    return costs(listed, model, options) if untimed else before


def measure(
    listed: Sequence[WantedColumn], model: str, options: RunOptions, watcher: Watcher | None = None
) -> list[Result]:
    """Runs what is not yet run. Raises UserError."""
    return [
        result
        for tasks, own in together(listed, options)
        for result in run_all(tasks, [model], own, watcher)
    ]


def beside(paper: Paper, table: PaperTable, results: Iterable[Result], against: str) -> Rebuilt:
    """The table with these results beside the numbers of the published model."""
    runs = [measured_run(result.folder, result.rows) for result in results]
    return rebuild(paper, table, runs, against)


def against_of(paper: Paper, table: PaperTable, model: str, against: str | None) -> str:
    """The published model that a model is compared with: the one named, else that of its own name.

    Raises UnknownName.
    """
    name = against if against is not None else load_model(model).name
    counterparts(paper, table, name)
    return name
