"""Which runs are compared with which: partners in groups of runs, and checkpoints in their order."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from emu2eval.compare.comparison import Difference, compare_all
from emu2eval.engine.stored import StoredRun
from emu2eval.errors import CompareError


def sides(
    groups: Sequence[Sequence[StoredRun]], names: Sequence[str]
) -> tuple[list[tuple[StoredRun, StoredRun]], list[str]]:
    """Each run of the first group with its partner in each other group, and what has none.

    Groups of one run each are partners whatever they are; larger ones are matched by task, split,
    protocol and shots. Raises CompareError where a group has several runs of one kind.
    """
    if all(len(group) == 1 for group in groups):
        head, *others = (group[0] for group in groups)
        return [(head, other) for other in others], []
    keyed = [_by_kind(group, name) for group, name in zip(groups, names, strict=True)]
    pairs, alone = [], []
    for other in keyed[1:]:
        pairs += [(keyed[0][kind], other[kind]) for kind in keyed[0] if kind in other]
        alone += [keyed[0][kind].folder.name for kind in keyed[0] if kind not in other]
        alone += [other[kind].folder.name for kind in other if kind not in keyed[0]]
    if not pairs:
        raise CompareError(
            f"{names[0]} and {' and '.join(names[1:])} have no task, split, protocol and number of "
            "shots in common",
            hint="emu2eval ls runs",
        )
    return pairs, list(dict.fromkeys(alone))


def _by_kind(runs: Sequence[StoredRun], name: str) -> dict[tuple[str, ...], StoredRun]:
    found: dict[tuple[str, ...], StoredRun] = {}
    for run in runs:
        kind = (run.task, run.record["split"], run.record["protocol"], run.shots)
        if kind in found:
            raise CompareError(
                f"{name!r} stands for several runs of {run.task} at {run.shots} shots",
                hint=f"name one of them: {found[kind].folder.name} or {run.folder.name}",
            )
        found[kind] = run
    return found


def compare_series(
    steps: Sequence[Sequence[StoredRun]], names: Sequence[str], *, force: bool = False
) -> list[list[tuple[StoredRun, Difference | None]]]:
    """Checkpoints in the order given: for each kind of run every step's, with its change since the last.

    Headlines alone; their p-values are corrected together. Raises CompareError as `compare` and `sides`.
    """
    if all(len(group) == 1 for group in steps):
        tracks = [[group[0] for group in steps]]
    else:
        kinds = [_by_kind(group, name) for group, name in zip(steps, names, strict=True)]
        shared = [kind for kind in kinds[0] if all(kind in each for each in kinds)]
        tracks = [[each[kind] for each in kinds] for kind in shared]
        if not tracks:
            raise CompareError(
                "the checkpoints have no task, split, protocol and number of shots in common",
                hint="emu2eval ls runs",
            )
    pairs = [(a, b) for track in tracks for a, b in pairwise(track)]
    made = compare_all(pairs, force=force)
    heads = (d for d in made.differences if d.group is None)
    first_of: dict[tuple[str, str], Difference] = {}
    for each in heads:
        first_of.setdefault((each.first_run, each.second_run), each)
    return [
        [
            (track[0], None),
            *((b, first_of[a.folder.name, b.folder.name]) for a, b in pairwise(track)),
        ]
        for track in tracks
    ]
