"""Evaluation as a notebook wants it: results that show themselves, as a table, as frames and as curves."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from functools import wraps
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

from emu2eval.engine import evaluation
from emu2eval.engine.results import Result
from emu2eval.types import Row
from emu2eval.watch import Watcher, Watchers

if TYPE_CHECKING:
    from pandas import DataFrame

P = ParamSpec("P")

_FRAME = (
    "task", "model", "shots", "metric", "value", "stderr", "low", "high", "n", "unscored", "group",
    "ablation", "protocol", "split", "run",
)  # fmt: skip
"""Columns of `Evaluation.frame`; pandas shows the first and the last ones."""
_SAMPLE = ("task", "model", "shots", "id", "trial", "take", "value", "prediction", "why")
"""The first columns of `Evaluation.samples`."""


class Evaluation(list[Result]):
    """The runs of an evaluation, in order; a list that notebooks display as a table.

    notes: messages issued during the evaluation, such as that answers cannot be reused.
    """

    def __init__(self, results: Iterable[Result] = (), notes: Iterable[str] = ()):
        super().__init__(results)
        self.notes = list(dict.fromkeys(notes))

    def rows(self, groups: bool = False) -> list[Row]:
        """One a run and metric, for `emu2eval.report.table`; groups: sub-scores, too."""
        return [row for result in self for row in result.rows if groups or row.group is None]

    def frame(self, groups: bool = False) -> DataFrame:
        """A pandas data frame: one row per run and metric, with the main columns; `load_runs` has all of
        them.

        Shots are numbers, but for text-only demonstrations (0*). Raises MissingExtra without pandas.
        """
        from emu2eval.exports.dataframe import pandas_for

        rows = self.rows(groups)
        plain = not any(row.shots.text_only for row in rows)
        listed = [
            {
                **{name: getattr(row, name) for name in _FRAME},
                "shots": row.shots.count if plain else str(row.shots),
                "metric": row.label,
                "protocol": row.protocol_label,
            }
            for row in rows
        ]
        return pandas_for("Evaluation.frame").DataFrame(listed, columns=_FRAME)

    def samples(self) -> DataFrame:
        """A pandas data frame: one row per sample, trial and take, with the answer; the columns of
        `load_runs`.

        Raises MissingExtra without pandas.
        """
        from emu2eval.exports.dataframe import load_runs

        found = load_runs([result.folder for result in self])
        return found[[*_SAMPLE, *(name for name in found if name not in _SAMPLE)]]

    def curves(self, file: str | Path | None = None) -> Chart:
        """Few-shot curves with 95 % intervals; file: .png, .svg or .pdf. Raises as `report.curves.draw`."""
        from emu2eval.report import curves

        rows = [
            row
            for row in (result.rows[0] for result in self if result.rows)
            if curves.is_on_curve(row)
        ]
        chosen = None if file is None else Path(file)
        curves.check(chosen or Path("curves.png"), rows)
        return Chart(curves.paint(curves.panels(rows), chosen))

    @property
    def _below(self) -> list[str]:
        failed = [
            f"{result.failed:,} requests of {result.folder.name} have no answer ({result.why})"
            for result in self
            if result.failed
        ]
        return [*failed, *self.notes]

    def __repr__(self) -> str:
        if not self:
            return "Evaluation([])"
        from rich.console import Console

        from emu2eval.report import table

        shown = io.StringIO()
        console = Console(file=shown, width=100, no_color=True, legacy_windows=False)
        console.print(table.rich_table(table.order(self.rows())))
        lines = [line.rstrip() for line in shown.getvalue().splitlines()]
        return "\n".join([*lines, *self._below])

    def _repr_html_(self) -> str:
        from emu2eval.report import table

        rows = table.order(self.rows())
        columns = table.columns(rows) if rows else []
        same = [c for c in columns if c.shared and len(rows) > 1 and len({*map(c.cell, rows)}) == 1]
        columns = [column for column in columns if column not in same]
        above = " · ".join(f"{escape(c.name)}: {escape(c.cell(rows[0]))}" for c in same)
        head = "".join(f"<th>{escape(column.name)}</th>" for column in columns)
        body = "".join(
            "<tr>"
            + "".join(
                f'<td style="text-align:{"right" if column.number else "left"}">'
                f"{escape(column.cell(row))}</td>"
                for column in columns
            )
            + "</tr>"
            for row in rows
        )
        notes = "".join(f"<p>{escape(note)}</p>" for note in self._below)
        told = f"<p>{above}</p>" if above else ""
        return f"{told}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{notes}"


class Chart:
    """A figure of matplotlib that a notebook shows, whether or not matplotlib was set up for it."""

    def __init__(self, figure: Any):
        self.figure = figure

    def _repr_png_(self) -> bytes:
        drawn = io.BytesIO()
        self.figure.savefig(drawn, format="png", dpi=100)
        return drawn.getvalue()


class _Noting(Watcher):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def _showing(call: Callable[P, list[Result]]) -> Callable[P, Evaluation]:
    @wraps(call)
    def asked(*given: P.args, **named: P.kwargs) -> Evaluation:
        noting, watcher = _Noting(), named.get("watcher")
        named["watcher"] = Watchers(noting, watcher) if isinstance(watcher, Watcher) else noting
        return Evaluation(call(*given, **named), noting.notes)

    return asked


evaluate = _showing(evaluation.evaluate)
"""`engine.evaluation.evaluate`, whose results show themselves."""
