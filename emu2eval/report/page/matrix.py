"""Differences of every two runs that answered the same questions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

from emu2eval.compare.comparison import Difference, compare
from emu2eval.errors import UserError
from emu2eval.runs.scored import ScoredRun
from emu2eval.statistics.paired import holm


def matrices(
    runs: Sequence[ScoredRun], progress: Callable[[int, int], None]
) -> list[dict[str, Any]]:
    """One matrix for each task, protocol and split with two runs or more.

    Its cells compare the second run with the first, or say why the two cannot be; their p-values are
    corrected for all of one matrix (Holm).
    """
    groups: dict[tuple[str, str, str], list[int]] = {}
    for number, run in enumerate(runs):
        key = run.task, run.record.protocol_label, run.record.task.split
        groups.setdefault(key, []).append(number)
    total = sum(len(group) * (len(group) - 1) // 2 for group in groups.values())
    made, done = [], 0
    for (task, protocol, split), group in groups.items():
        if len(group) < 2:
            continue
        cells: list[dict[str, Any]] = []
        for first, second in combinations(group, 2):
            cells.append({"a": first, "b": second, **_cell(runs[first], runs[second])})
            done += 1
            progress(done, total)
        for cell, p in zip(cells, holm([cell.get("p") for cell in cells]), strict=True):
            cell["holm"] = p
        made.append(
            {"task": task, "protocol": protocol, "split": split, "runs": group, "cells": cells}
        )
    return made


_KEPT = (
    "difference",
    "low",
    "high",
    "p",
    "wins",
    "losses",
    "ties",
    "n",
    "unmatched",
    "unscored",
    "notes",
)


def _cell(first: ScoredRun, second: ScoredRun) -> dict[str, Any]:
    try:
        head: Difference = compare(first, second).differences[0]
    except UserError as error:
        return {"why": error.what}
    kept = {name: getattr(head, name) for name in _KEPT}
    return {"metric": head.label, "better": head.higher_is_better, **kept}
