"""Which runs are compared with which: partners in groups of runs, and checkpoints in their order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from emu2eval.compare.comparison import Difference, compare_all
from emu2eval.errors import CompareError
from emu2eval.runs.record import RECORD
from emu2eval.runs.scored import ScoredRun
from emu2eval.types import Shots


class _Kind(NamedTuple):
    """What partners have in common. seed, model: None where these tell no runs of a group apart."""

    task: str
    split: str
    protocol: str
    shots: Shots
    ablation: str
    seed: int | None
    model: str | None


def partners(
    groups: Sequence[Sequence[ScoredRun]], names: Sequence[str]
) -> tuple[list[tuple[ScoredRun, ScoredRun]], list[str]]:
    """Each run of the first group with its partner in each other group, and the names of those without one.

    Groups of one run each are partners whatever they are; larger ones are matched by task, split, protocol,
    shots and ablation, and by seed, or the model's name, where a group has several. Raises CompareError
    where a group still has several runs of one kind.
    """
    if all(len(group) == 1 for group in groups):
        head, *others = (group[0] for group in groups)
        return [(head, other) for other in others], []
    keyed = _by_kind(groups, names)
    pairs, alone = [], []
    for other in keyed[1:]:
        pairs += [(keyed[0][kind], other[kind]) for kind in keyed[0] if kind in other]
        alone += [keyed[0][kind].name for kind in keyed[0] if kind not in other]
        alone += [other[kind].name for kind in other if kind not in keyed[0]]
    if not pairs:
        raise CompareError(
            f"{names[0]} and {' and '.join(names[1:])} have no task, split, protocol and number of "
            "shots in common",
            hint="emu2eval ls runs",
        )
    return pairs, list(dict.fromkeys(alone))


def _by_kind(
    groups: Sequence[Sequence[ScoredRun]], names: Sequence[str]
) -> list[dict[_Kind, ScoredRun]]:
    # Another seed is no other question, and another model is what is compared: each counts only where
    # runs of one group are told apart by it.
    by = next(
        (by for by in _TELLING if not any(_alike(group, by) for group in groups)), _TELLING[-1]
    )
    keyed = []
    for group, name in zip(groups, names, strict=True):
        found: dict[_Kind, ScoredRun] = {}
        for run in group:
            kind = _kind(run, by)
            if kind in found:
                raise CompareError(
                    f"{name!r} matches several runs of {run.task} at {run.record.setting} shots",
                    hint=f"name one: {found[kind].name} or {run.name}",
                )
            found[kind] = run
        keyed.append(found)
    return keyed


_TELLING: tuple[frozenset[str], ...] = (
    frozenset(),
    frozenset({"seed"}),
    frozenset({"model"}),
    frozenset({"seed", "model"}),
)


def _alike(group: Sequence[ScoredRun], by: frozenset[str]) -> bool:
    """Whether two runs of the group are of one kind."""
    return len({_kind(run, by) for run in group}) < len(group)


def _kind(run: ScoredRun, by: frozenset[str]) -> _Kind:
    record = run.record
    return _Kind(
        run.task,
        record.task.split,
        record.protocol_label,
        record.shots,
        record.ablation,
        record.seed if "seed" in by else None,
        record.shown if "model" in by else None,
    )


def training_tracks(runs: Iterable[ScoredRun]) -> list[list[ScoredRun]]:
    """The runs of each training and kind in the order of their steps; of one step the latest made."""
    tracks: dict[Any, dict[int, ScoredRun]] = {}
    for run in sorted(runs, key=lambda run: (run.folder / RECORD).stat().st_mtime_ns):
        training = run.record.model.training
        if training is not None:
            kind = (training.series, _kind(run, frozenset({"seed"})))
            tracks.setdefault(kind, {})[training.step] = run
    found = [[track[step] for step in sorted(track)] for track in tracks.values()]
    return sorted(found, key=lambda track: (track[0].task, track[0].record.shots.rank))


def compare_series(
    steps: Sequence[Sequence[ScoredRun]], names: Sequence[str], *, force: bool = False
) -> list[list[tuple[ScoredRun, Difference | None]]]:
    """Checkpoints in order: for each kind of run every step's, with its change since the last.

    The order is that of training where all runs say their step, else that given. Headlines alone; their
    p-values are corrected together. Raises CompareError as `compare` and `partners`.
    """
    every = [run for group in steps for run in group]
    if len(every) < 2:
        raise CompareError("a series needs at least two checkpoints", hint="emu2eval ls runs")
    if all(run.record.model.training is not None for run in every):
        tracks = training_tracks(every)
    elif all(len(group) == 1 for group in steps):
        tracks = [[group[0] for group in steps]]
    else:
        kinds = _by_kind(steps, names)
        shared = [kind for kind in kinds[0] if all(kind in each for each in kinds)]
        tracks = [[each[kind] for each in kinds] for kind in shared]
        if not tracks:
            raise CompareError(
                "the checkpoints have no task, split, protocol and number of shots in common",
                hint="emu2eval ls runs",
            )
    pairs = [(a, b) for track in tracks for a, b in pairwise(track)]
    made = compare_all(pairs, force=force)
    first_of: dict[tuple[str, str], Difference] = {}
    for each in made.differences:
        if each.group is None:
            first_of.setdefault((each.first_run, each.second_run), each)
    return [
        [(track[0], None), *((b, first_of[a.name, b.name]) for a, b in pairwise(track))]
        for track in tracks
    ]
