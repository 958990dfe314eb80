"""What a page's runs show, in a few sentences, each with its interval and whether chance explains it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from emu2eval.compare.comparable import Measure
from emu2eval.compare.comparison import Difference
from emu2eval.report.compared import chance as p_value
from emu2eval.report.formats import ends, number
from emu2eval.report.notes import counted
from emu2eval.report.page.differences import Compared
from emu2eval.types import Row

LEVEL = 0.05
MOST_GAINS = 4
"""Models of one measure whose gain by demonstrations is told; the table of differences has all."""


@dataclass(frozen=True, slots=True)
class Conclusion:
    """sure: whether chance alone is an unlikely explanation (p below 0.05, corrected after Holm); None where
    nothing was compared. run: the place of the run that it leads to."""

    about: str
    said: str
    sure: bool | None
    run: int


def conclusions(
    rows: Sequence[Row], labels: Sequence[str], compared: Sequence[Compared]
) -> list[Conclusion]:
    """Measure by measure: who leads at equal shots, and what demonstrations add; of a run alone its value."""
    made: list[Conclusion] = []
    alone: list[Conclusion] = []
    measures: dict[Measure, list[int]] = {}
    for place, row in enumerate(rows):
        measures.setdefault(Measure.of(row), []).append(place)
    for measure, places in measures.items():
        own = [each for each in compared if each.measure == measure]
        told = [*_lead(rows, labels, own), *_gains(rows, labels, own)]
        made += told
        alone += [] if told else _alone(rows, labels, places)
    return made + alone


def _lead(
    rows: Sequence[Row], labels: Sequence[str], compared: Sequence[Compared]
) -> Iterator[Conclusion]:
    """At the setting that most models share, of two the one of more shots."""
    settings: dict[str, list[Compared]] = {}
    for each in compared:
        if each.kind == "models":
            settings.setdefault(each.setting, []).append(each)
    if not settings:
        return
    largest = max(
        settings.values(), key=lambda found: (len(_runs(found)), rows[found[0].first].shots.rank)
    )
    first = max(_runs(largest), key=lambda place: _worth(rows[place]))
    against = {
        each.first if each.second == first else each.second: each
        for each in largest
        if first in (each.first, each.second)
    }
    row = rows[first]
    where = _task(row)
    lead = f"At {_shots(row)} {labels[first]} leads with {_value(row)}"
    ahead = {place: each for place, each in against.items() if _sure(each)}
    if len(against) > 1 and len(ahead) in (0, len(against)):
        whom = (
            f"all {len(against)} other models"
            if ahead
            else f"none of the {len(against)} other models"
        )
        lead += f", significantly ahead of {whom}"
    elif len(against) > 1:
        lead += f", significantly ahead of {len(ahead)} of {len(against)} other models"
    second = max(against, key=lambda place: _worth(rows[place]), default=None)
    if second is None:
        return
    gap = against[second].made
    if not isinstance(gap, Difference) or gap.difference is None:
        yield Conclusion(
            where, f"{lead}; {labels[second]} is next with {_value(rows[second])}.", None, first
        )
        return
    if gap.difference == 0:
        yield Conclusion(
            where,
            f"At {_shots(row)} {labels[first]} and {labels[second]} are level at {_value(row)}.",
            False,
            first,
        )
        return
    sign = 1 if against[second].second == first else -1
    said = f"{lead}; {labels[second]} follows at {_value(rows[second])}, {_gap(gap, sign, row)}"
    yield Conclusion(
        where, f"{said}: {_verdict(against[second], row)}.", _sure(against[second]), first
    )


def _runs(compared: Sequence[Compared]) -> list[int]:
    return list(dict.fromkeys(place for each in compared for place in (each.first, each.second)))


def _gains(
    rows: Sequence[Row], labels: Sequence[str], compared: Sequence[Compared]
) -> Iterator[Conclusion]:
    """Of each model its most demonstrations against its fewest."""
    most: dict[str, Compared] = {}
    for each in compared:
        if each.kind == "shots" and isinstance(each.made, Difference):
            most[labels[each.first]] = each  # the last one has the most
    ranked = sorted(most.items(), key=lambda item: -_worth(rows[item[1].second]))
    for label, each in ranked[:MOST_GAINS]:
        gap, before, after = each.made, rows[each.first], rows[each.second]
        if not isinstance(gap, Difference) or gap.difference is None:
            continue
        better = gap.difference > 0 if gap.higher_is_better else gap.difference < 0
        moved = "rises" if gap.difference > 0 else "falls" if gap.difference < 0 else "stays"
        word = "" if gap.difference == 0 or better == (moved == "rises") else " (lower is better)"
        said = (
            f"{label} {moved} from {_value(before)} at {_shots(before)} to {_value(after)} at "
            f"{after.setting}{word}, {_gap(gap, 1, after)}: {_verdict(each, after)}."
        )
        yield Conclusion(_task(after), said, _sure(each), each.second)


def _alone(
    rows: Sequence[Row], labels: Sequence[str], places: Sequence[int]
) -> Iterator[Conclusion]:
    """Runs of which no two can be compared: each by itself, against chance where the task says what it is."""
    for place in places:
        row = rows[place]
        if row.value is None:
            continue
        said = f"At {_shots(row)} {labels[place]} reaches {_value(row)} "
        said += f"{_within(row.low, row.high, row)} on "
        said += counted(row.n, "answer")
        sure = None
        if row.chance is not None and row.low is not None and row.high is not None:
            better = row.low > row.chance if row.higher_is_better else row.high < row.chance
            sure = better
            what = "significantly better" if better else "not significantly better"
            said += f", {what} than random guessing ({number(row.chance, row.digits)})"
        yield Conclusion(_task(row), said + ".", sure, place)


def _task(row: Row) -> str:
    version = f" v{row.version}" if row.version != 1 else ""
    return f"{row.task}{version} ({row.split}, {row.protocol_label}, {row.label})"


def _shots(row: Row) -> str:
    return f"{row.setting} {'shot' if row.setting == '1' else 'shots'}"


def _worth(row: Row) -> float:
    if row.value is None:
        return -float("inf")
    return row.value if row.higher_is_better else -row.value


def _value(row: Row) -> str:
    return number(row.value, row.digits)


def _within(low: float | None, high: float | None, row: Row) -> str:
    return ends(low, high, row.digits) if low is not None else ""


def _gap(gap: Difference, sign: int, row: Row) -> str:
    """The difference with its interval, seen from the second run (sign 1) or from the first (-1)."""
    low, high = gap.low, gap.high
    if low is not None and high is not None:
        low, high = sorted((sign * low, sign * high))
    return f"{sign * (gap.difference or 0):+.{row.digits}f} {_within(low, high, row)}".strip()


def _sure(each: Compared) -> bool | None:
    p = each.holm
    return None if p is None else p < LEVEL


def _verdict(each: Compared, row: Row) -> str:
    """Whether the difference can be chance; where it can, how large one would have been found."""
    gap, p = each.made, each.holm
    if p is None or not isinstance(gap, Difference):
        return "significance unknown"
    if p < LEVEL:
        return f"significant (p {p_value(p)})"
    found = ""
    if gap.detectable is not None:
        least, on = number(gap.detectable, row.digits), counted(gap.n, "answer")
        found = f"; differences below {least} are rarely detected with {on}"
    return f"not significant (p {p_value(p)}{found})"
