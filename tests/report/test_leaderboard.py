"""Leaderboards: best and second best beyond doubt, ranks, order; and the tables kept in git."""

from __future__ import annotations

import csv
import io
import json
from itertools import count
from pathlib import Path

import pytest
from msgspec.structs import replace
from rich.console import Console

import emu2eval
from emu2eval import evaluate
from emu2eval.doctor.reference import keep
from emu2eval.errors import UnknownName
from emu2eval.report import committed
from emu2eval.report.blocks import rich_board
from emu2eval.report.leaderboard import (
    BEST,
    SECOND,
    apart,
    arranged,
    board,
    marks,
    render_board,
)
from emu2eval.report.table import rich_table
from emu2eval.types import Row, Shots

ROOT = Path(emu2eval.__file__).parents[1]

ROW = Row(
    run="r", task="t", model="a", shots=Shots(4), protocol="plain", split="test", metric="accuracy",
    value=50.0, stderr=1.0, n=100, unscored=0, covered=100, queries=100, seconds=1.0, low=48.0, high=52.0,
)  # fmt: skip
_NUMBERS = count()


def row(model: str, value: float | None, stderr: float | None = 1.0, **changes: object) -> Row:
    """A row of a run of its own."""
    changed = replace(ROW, model=model, value=value, stderr=stderr, run=f"r{next(_NUMBERS)}")
    return replace(changed, **changes)


def marked(*rows: Row) -> list[tuple[str, str]]:
    return marks({each.model: each for each in rows})


def test_apart_by_the_interval_of_the_difference() -> None:
    # Errors of 1 and 1: the difference's is 1.414, times 1.96 is 2.77.
    assert apart(row("a", 52.78), row("b", 50.0))
    assert not apart(row("a", 52.76), row("b", 50.0))
    # Without an error, intervals that do not overlap.
    assert apart(row("a", 60, None, low=58.0, high=62.0), row("b", 50.0))
    assert not apart(row("a", 60, None, low=51.0, high=62.0), row("b", 50.0))
    assert not apart(row("a", 60, None, low=None, high=None), row("b", 50.0))
    assert not apart(row("a", None), row("b", 50.0))


def test_best_and_second_best_only_beyond_doubt() -> None:
    assert marked(row("a", 60), row("b", 50), row("c", 40)) == [("a", BEST), ("b", SECOND)]
    assert marked(row("a", 60), row("b", 50), row("c", 49)) == [("a", BEST)]
    assert marked(row("a", 60), row("b", 59), row("c", 40)) == []
    # Nobody stands below the last one.
    assert marked(row("a", 60), row("b", 50)) == [("a", BEST)]
    assert marked(row("a", 60)) == []
    low = {"higher_is_better": False}
    assert marked(row("a", 60, **low), row("b", 50, **low), row("c", 40, **low)) == [
        ("c", BEST),
        ("b", SECOND),
    ]


def test_columns_rise_by_shots_though_the_first_model_lacks_some() -> None:
    rows = [
        row("a", 60, shots=Shots(16)), row("b", 50), row("b", 40, ablation="blank"),
        row("b", 50, shots=Shots(0)),
    ]  # fmt: skip
    assert [place.setting for place in board(rows)[0]] == ["0", "4", "4 (blank)", "16"]


def test_models_by_tasks_and_shots() -> None:
    rows = [
        row("a", 60), row("b", 50), row("a", 70, shots=Shots(8)), row("b", 80, shots=Shots(8)),
        row("a", 10, task="u"), row("a", 99, group="kind: odd"), row("c", None),
    ]  # fmt: skip
    places, lines = board(rows)
    assert [(p.task, p.setting) for p in places] == [("t", "4"), ("t", "8"), ("u", "4")]
    assert [line.model for line in lines] == ["a", "b"]
    # Over the two places that both have: 1 and 2 each.
    assert [line.rank for line in lines] == [1.5, 1.5]
    assert lines[0].marks == {places[0]: BEST}
    assert lines[1].marks == {places[1]: BEST}


def test_ties_share_a_rank_and_protocols_a_column_never() -> None:
    _, lines = board([row("a", 5), row("b", 5), row("c", 7)])
    assert [(line.model, line.rank) for line in lines] == [("c", 1.0), ("a", 2.5), ("b", 2.5)]
    rows = [row("a", 60), row("b", 50, protocol="other")]
    places, lines = board(rows)
    assert len(places) == 2
    assert not any(line.marks for line in lines)
    assert "t plain @4 | t other @4" in render_board(rows, "markdown") or (
        "t other @4 | t plain @4" in render_board(rows, "markdown")
    )


def test_further_metrics_of_a_run_are_no_columns() -> None:
    places, _ = board([row("a", 60, run="r"), row("a", 1, run="r", metric="f1")])
    assert [place.measure.metric for place in places] == ["accuracy"]


def test_the_largest_run_of_a_place_counts() -> None:
    rows = [row("a", 60, run="x"), row("a", 61, run="y", n=200), row("a", 62, run="z", seed=1)]
    _, (line,) = board(rows)
    assert [each.value for each in line.rows.values()] == [61]
    assert line.passed_over == ["x", "z"]
    said = "not shown, because another run of the same model fills the cell: x, z"
    assert said in render_board(rows, "markdown")


@pytest.mark.parametrize(
    "other",
    [
        {"imported": "lm-eval"}, {"judge": "gpt-4"}, {"variant": "official"}, {"encoder": "aaaaaaaa"},
        {"version": 2}, {"split": "val"}, {"ablation": "labels"}, {"shots": Shots(2, text_only=True)},
    ],
)  # fmt: skip
def test_numbers_of_different_things_never_share_a_column(other: dict[str, object]) -> None:
    rows = [row("a", 60), row("b", 50, **other)]
    places, lines = board(rows)
    assert len(places) == 2 and not any(line.marks for line in lines)
    assert len(set(map(str, render_board(rows, "markdown").splitlines()[0].split("|")[2:4]))) == 2


def test_sorting() -> None:
    rows = [row("a", 50), row("b", 60), row("a", 9, task="u"), row("b", 1, task="u")]
    assert [line.model for line in board(rows, "t")[1]] == ["b", "a"]
    assert [line.model for line in board(rows, "u")[1]] == ["a", "b"]
    assert [line.model for line in board(rows, "-model")[1]] == ["b", "a"]
    with pytest.raises(UnknownName, match="available: model, rank, t, u"):
        board(rows, "nothing")
    assert [r.value for r in arranged(rows, sort="value")] == [60, 50, 9, 1]
    assert [r.value for r in arranged(rows, "task", "value")] == [60, 50, 9, 1]
    assert [r.model for r in arranged(rows, "model", "-value")] == ["a", "a", "b", "b"]
    every = (Shots(16), Shots(2, text_only=True), Shots(0), Shots(4))
    shots = [row("a", 1, shots=Shots(4), ablation="labels"), *(row("a", 1, shots=s) for s in every)]
    listed = [r.setting for r in arranged(shots, sort="shots")]
    assert listed == ["0", "0*", "4", "4 (labels)", "16"]
    for by, sort in (("nothing", None), (None, "nothing")):
        with pytest.raises(UnknownName):
            arranged(rows, by, sort)


def test_every_format() -> None:
    rows = [row("a", 60, queries=200), row("b|", 50, unscored=3), row("c", 40)]
    markdown = render_board(rows, "markdown")
    assert f"| a | 60.0 ±1.0† {BEST} | 1.0 |" in markdown
    assert rf"| b\| | 50.0 ±1.0 (3 unscored) {SECOND} | 2.0 |" in markdown
    assert "marked only if the 95 % interval" in markdown and "† a subset" in markdown
    assert r"\textbf{60.0 $\pm$1.0\dag{} \textsuperscript{1}}" in render_board(rows, "latex")
    flat = json.loads(render_board(rows, "json"))
    assert [(f["model"], f["mark"], f["mean_rank"]) for f in flat] == [
        ("a", BEST, 1.0),
        ("b|", SECOND, 2.0),
        ("c", None, 3.0),
    ]
    (first, *_) = csv.DictReader(io.StringIO(render_board(rows, "csv")))
    assert (first["model"], float(first["value"]), first["shots"]) == ("a", 60.0, "4")
    out = io.StringIO()
    Console(file=out, width=160).print(rich_board(rows), rich_table(rows, by="model"))
    assert f"60.0 ±1.0† {BEST}" in out.getvalue()


def test_committed_tables_are_those_of_the_committed_runs() -> None:
    """`make tables` writes them."""
    made = committed.texts(ROOT / "results" / "reference")
    folder = ROOT / "results" / "tables"
    kept = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.md")}
    assert kept == made, "the tables have changed: make tables"


def test_tables_of_references(tmp_path: Path) -> None:
    for model in ("nearest", "most-common"):
        (result,) = evaluate("easy-vqa", model, shots=[2], limit=20, out=tmp_path / "runs")
        keep(result.folder, tmp_path / "references")
    folder = tmp_path / "tables"
    folder.mkdir()
    (folder / "old.md").write_text("of an earlier time")
    written = committed.write(tmp_path / "references", folder)
    assert {path.name for path in written} == {path.name for path in folder.iterdir()}
    assert {"emu2.md", "reference.md", "leaderboard.md"} < {path.name for path in written}
    text = (folder / "reference.md").read_text(encoding="utf-8")
    assert "| nearest |" in text and "seconds" not in text
    assert "| most-common |" in (folder / "leaderboard.md").read_text(encoding="utf-8")
    assert committed.texts(tmp_path / "references") == {p.name: p.read_text() for p in written}
