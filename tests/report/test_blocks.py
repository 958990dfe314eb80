"""Models down, shots across, and one sentence on what that shows."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from emu2eval.report.blocks import blocks, fits, rich_board, sentence, shown, tables
from emu2eval.types import Row, Shots
from tests.report.test_leaderboard import row

PLAIN = [row("a", 20, shots=Shots(0)), row("a", 80), row("b", 21, shots=Shots(0)), row("b", 22)]


def text(made: Any, width: int = 100) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(made)
    return out.getvalue()


def test_a_block_has_models_down_and_shots_across() -> None:
    (block,) = blocks(PLAIN)
    lines = text(tables([block]), 160).splitlines()
    assert "t · accuracy ± s.e. · split test · protocol plain · n 100" in lines[0]
    assert [part.strip() for part in lines[2].strip("┃").split("┃")] == ["shots", "0", "4"]
    assert [part.strip() for part in lines[4].strip("│").split("│")] == [
        "a",
        "20.0 ±1.0",
        "80.0 ±1.0",
    ]
    said = (
        "a is significantly ahead of the other model at 4 shots; it is the only one to gain "
        "from more examples: "
    )
    assert said + "20.0 at 0 shots, 80.0 at 4." in lines[-1]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([row("a", 20), row("b", 20.5)], "No model is significantly ahead of the next best at 4 shots."),
        ([row("a", 20, shots=Shots(0)), row("a", 20.5)], "No model gains significantly from more examples."),
        ([row("a", 20)], None),
        ([*PLAIN, row("c", 40, shots=Shots(0)), row("c", 70)],
         "a is significantly ahead of both other models at 4 shots; it gains most from more "
         "examples: 20.0 at 0 "
         "shots, 80.0 at 4."),
        ([row("a", 20, higher_is_better=False), row("b", 50, higher_is_better=False)],
         "a is significantly ahead of the other model at 4 shots."),
    ],
)  # fmt: skip
def test_sentences(rows: list[Row], said: str | None) -> None:
    (block,) = blocks(rows)
    assert sentence(block) == said


def test_a_gain_by_ablated_examples_is_none() -> None:
    rows = [row("a", 20, shots=Shots(0)), row("a", 90, ablation="labels")]
    assert shown(blocks(rows)[0]).gainer is None


def test_when_rows_are_read_as_blocks() -> None:
    assert fits(PLAIN)
    assert not fits(PLAIN[:2]) and not fits(PLAIN[1::2])  # one model; one number of shots
    # A run's further metrics would be lost.
    assert not fits([*PLAIN, row("a", 1, metric="f1", run=PLAIN[0].run)])


def test_a_common_part_of_the_split_stands_above_and_guessing_below() -> None:
    rows = [
        row("a", 20, covered=50, queries=200, chance=25.0),
        row("b", 60, covered=50, queries=200),
    ]
    said = text(tables(blocks(rows)))
    assert (
        "50 of 200 queries" in said and "†" not in said and "│ chance" in said and "25.0 │" in said
    )
    mixed = text(rich_board([rows[0], row("b", 60)]))
    assert "20.0 ±1.0†" in mixed and "† a subset" in mixed
    assert "60.0 ±1.0 ①" in mixed and "best and second best" in mixed
    # Nothing is explained that is not there: one measure has no mean rank, near values no marks.
    assert "mean rank" not in mixed
    near = text(rich_board([row("a", 20), row("b", 20.5), row("a", 3, task="t2"), row("b", 3)]))
    assert "best and second best" not in near and "①" not in near
    assert "①" not in text(tables(blocks(PLAIN)))
