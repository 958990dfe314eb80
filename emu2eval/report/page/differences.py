"""Which runs of a page are compared, and how they differ: models at equal shots, what demonstrations add."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Literal

from emu2eval.compare.comparable import Measure
from emu2eval.compare.comparison import Difference
from emu2eval.compare.headlines import Headline, compare_headlines
from emu2eval.errors import CompareError, ConfigError
from emu2eval.report.curves import is_on_curve
from emu2eval.statistics.paired import holm
from emu2eval.types import Row

ALL_PAIRS = 5
"""Runs at equal shots up to which each is compared with each; more are compared with one of them."""

Kind = Literal["models", "shots", "ablation"]


@dataclass(frozen=True, slots=True)
class Compared:
    """The second run against the first, by their places on the page, or why there is no difference.

    kind: models at equal shots; more demonstrations against the fewest; demonstrations of which something
    was taken away against whole ones. best: the first one was taken for its value, the best of its kind.
    holm: p corrected for all of this kind in one measure.
    """

    kind: Kind
    measure: Measure
    setting: str
    first: int
    second: int
    best: bool
    made: Difference | CompareError
    holm: float | None = None


@dataclass(frozen=True, slots=True)
class _Pair:
    kind: Kind
    measure: Measure
    setting: str
    first: int
    second: int
    best: bool = False


def differences(
    rows: Sequence[Row],
    laid: Sequence[Headline | None],
    labels: Sequence[str],
    baseline: str | None,
) -> list[Compared]:
    """rows: the headline of each run; labels: of its model. baseline: the name or label of a model that all
    others are compared with. Raises ConfigError where no run is of it.
    """
    if baseline is not None and not any(
        _is(baseline, *each) for each in zip(rows, labels, strict=True)
    ):
        known = ", ".join(dict.fromkeys(labels))
        raise ConfigError(f"no run of the baseline {baseline!r}", hint=f"one of: {known}")
    known_runs = [each for each in laid if each is not None]
    place = {id(each): number for number, each in enumerate(known_runs)}
    pairs = [
        pair
        for pair in _pairs(rows, labels, baseline)
        if laid[pair.first] is not None and laid[pair.second] is not None
    ]
    found = compare_headlines(
        known_runs, [(place[id(laid[p.first])], place[id(laid[p.second])]) for p in pairs]
    )
    made = [
        Compared(p.kind, p.measure, p.setting, p.first, p.second, p.best, difference)
        for p, difference in zip(pairs, found, strict=True)
    ]
    return list(_corrected(made))


def _is(name: str, row: Row, label: str) -> bool:
    return name in (row.model, label)


def _pairs(rows: Sequence[Row], labels: Sequence[str], baseline: str | None) -> Iterator[_Pair]:
    measures: dict[Measure, list[int]] = {}
    for number, row in enumerate(rows):
        if row.value is not None:
            measures.setdefault(Measure.of(row), []).append(number)
    for measure, group in measures.items():
        for setting, numbers in _by(group, [row.setting for row in rows]).items():
            for first, second, best in _models(numbers, rows, labels, baseline):
                yield _Pair("models", measure, setting, first, second, best)
        for numbers in _by(group, labels).values():
            yield from _shots(measure, numbers, rows)


def _by(numbers: Sequence[int], keys: Sequence[str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for number in numbers:
        found.setdefault(keys[number], []).append(number)
    return found


def _models(
    numbers: list[int], rows: Sequence[Row], labels: Sequence[str], baseline: str | None
) -> Iterator[tuple[int, int, bool]]:
    """Each with each where they are few, the better one second; else each with the baseline or the best."""
    ordered = sorted(numbers, key=lambda number: (_worth(rows[number]), -number))
    if baseline is not None:
        own = [n for n in ordered if _is(baseline, rows[n], labels[n])]
        yield from ((a, b, False) for a in own for b in reversed(ordered) if b not in own)
    elif len(ordered) <= ALL_PAIRS:
        yield from ((a, b, False) for b, a in combinations(reversed(ordered), 2))
    else:
        best = ordered.pop()
        yield from ((best, other, True) for other in reversed(ordered))


def _worth(row: Row) -> float:
    value = row.value or 0.0
    return value if row.higher_is_better else -value


def _shots(measure: Measure, numbers: list[int], rows: Sequence[Row]) -> Iterator[_Pair]:
    """More demonstrations of one model against its fewest, and ablated ones against whole ones."""
    curve = sorted((n for n in numbers if is_on_curve(rows[n])), key=lambda n: rows[n].shots.rank)
    for number in curve[1:]:
        yield _Pair("shots", measure, rows[number].setting, curve[0], number)
    whole = {rows[n].shots: n for n in numbers if rows[n].ablation == "none"}
    for number in numbers:
        row = rows[number]
        if row.ablation != "none" and row.shots in whole:
            yield _Pair("ablation", measure, row.setting, whole[row.shots], number)


def _corrected(made: Sequence[Compared]) -> Iterator[Compared]:
    together: dict[tuple[Kind, Measure], list[int]] = {}
    for number, each in enumerate(made):
        together.setdefault((each.kind, each.measure), []).append(number)
    corrected: dict[int, float | None] = {}
    for numbers in together.values():
        ps = [_p(made[n].made) for n in numbers]
        corrected.update(zip(numbers, holm(ps), strict=True))
    for number, each in enumerate(made):
        yield replace(each, holm=corrected[number])


def _p(made: Difference | CompareError) -> float | None:
    return made.p if isinstance(made, Difference) else None


_KEPT = (
    "first_value", "second_value", "difference", "low", "high", "p", "wins", "losses", "ties", "n",
    "clusters", "detectable", "unmatched", "unscored", "notes", "digits",
)  # fmt: skip


def shown(compared: Compared) -> dict[str, Any]:
    """What the page holds of it."""
    about: dict[str, Any] = {
        "kind": compared.kind,
        "setting": compared.setting,
        "a": compared.first,
        "b": compared.second,
        "best": compared.best,
    }
    made = compared.made
    if isinstance(made, CompareError):
        return about | {"why": made.what}
    kept = {name: getattr(made, name) for name in _KEPT}
    about |= {"metric": made.label, "better": made.higher_is_better, "holm": compared.holm}
    return about | kept
