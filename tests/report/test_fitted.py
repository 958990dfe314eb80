"""Tables at any width: names and values are never cut, and what is hidden is said."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from emu2eval.report.fitted import Fitted
from emu2eval.report.formats import Column
from emu2eval.report.table import rich_table
from emu2eval.types import Row, Shots

WIDTHS = (40, 80, 120, 160, 1000)


def row(model: str, shots: int, value: float, **more: object) -> Row:
    given = {
        "run": "a-run",
        "covered": 214_354,
        "queries": 214_354,
        "task": "a-task-with-a-long-name",
        "protocol": "plain",
        "split": "validation",
        "metric": "vqa_accuracy",
        "n": 214_354,
        "unscored": 0,
        "stderr": 0.12,
        "low": value - 0.25,
        "high": value + 0.25,
        "seconds": 12_345.6,
        "chance": 33.3,
        **more,
    }
    return Row(model=model, shots=Shots(shots), value=value, **given)  # type: ignore[arg-type]


ROWS = [
    row("qwen2.5-vl-72b-instruct-awq", 0, 71.25),
    row("qwen2.5-vl-72b-instruct-awq", 4, 73.5, unscored=3),
    row("emu2", 0, 33.3, task="another-task"),
]


def printed(table: object, width: int) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(table)
    return out.getvalue().splitlines()


@pytest.mark.parametrize("width", WIDTHS)
def test_names_and_values_are_whole_at_any_width(width: int) -> None:
    lines = printed(rich_table(ROWS), width)
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    for whole in (
        "71.25",
        "73.50",
        "33.30",
        "214,354",
        "qwen2.5-vl-72b-instruct-awq",
        "another-task",
    ):
        assert whole in text
    assert "…" not in text


def test_what_matters_least_goes_first_and_is_named() -> None:
    shown = {width: "\n".join(printed(rich_table(ROWS), width)) for width in (40, 80, 160)}
    assert "seconds" in shown[160] and "hidden" not in shown[160]
    assert "95 %" in shown[80]
    assert "hidden at this width" in shown[40] and "95 %" in shown[40].split("hidden")[1]
    assert "unscored" in shown[40].split("hidden")[0]


def test_a_note_is_a_footnote_where_its_column_does_not_fit() -> None:
    columns: list[Column[tuple[str, str]]] = [
        Column("model", lambda item: item[0]),
        Column("value", lambda item: "71.25", number=True),
        Column("notes", lambda item: item[1], empty="", foot=True),
    ]
    items = [
        ("one", ""),
        ("two", "its images were shown in another order than the prompt has them"),
    ]
    lines = printed(Fitted(columns, items, [], lambda item: None), 40)
    assert any("two" in line and "71.25ᵃ" in line for line in lines)
    assert any(line.startswith("ᵃ its images") for line in lines)
    assert not any("one" in line and "ᵃ" in line for line in lines)
    wide = printed(Fitted(columns, items, [], lambda item: None), 120)
    assert not any("ᵃ" in line for line in wide)


def test_many_numbers_stand_in_parts_each_with_the_names() -> None:
    columns: list[Column[str]] = [Column("model", lambda item: item)]
    columns += [
        Column(f"a-task-of-long-name @{shots}", lambda item: "45.0 ±12.2†", number=True)
        for shots in range(4)
    ]
    lines = printed(Fitted(columns, ["most-common", "nearest"], [], lambda item: None), 80)
    assert max(map(len, lines)) <= 80
    assert sum("│ nearest" in line for line in lines) == 2
    assert sum(line.count("@") for line in lines) == 4


def test_rows_become_lists_where_no_column_can_go() -> None:
    columns: list[Column[int]] = [
        Column(f"a number of the name {place}", lambda item: f"{item:.3f}", number=True)
        for place in range(8)
    ]
    lines = printed(Fitted(columns, [1], [], lambda item: None), 50)
    assert sum("1.000" in line for line in lines) == 8
    assert max(map(len, lines)) <= 50
