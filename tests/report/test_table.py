"""Tables: what is shown, what is left out, and that nothing a file says can break them."""

from __future__ import annotations

import csv
import io
import json

import pytest
from msgspec.structs import replace
from rich.console import Console

from emu2eval.errors import UnknownName
from emu2eval.report.table import order, render, rich_table
from emu2eval.types import Mark, Published, Row, Shots

ROW = Row(
    run="easy-vqa_4-shot_nearest_00000000", task="easy-vqa", model="nearest", shots=Shots(4),
    protocol="plain", split="test", metric="exact_match", value=33.333333, stderr=1.25, n=9673,
    unscored=0, covered=9673, queries=9673, seconds=12.3456,
)  # fmt: skip


def text(rows: list[Row]) -> str:
    out = io.StringIO()
    Console(file=out, width=200).print(rich_table(rows))
    return out.getvalue()


def test_rounded_for_people_whole_for_programs() -> None:
    assert "33.33 " in text([ROW])
    assert "9,673" in render([ROW], "markdown")
    (row,) = csv.DictReader(io.StringIO(render([ROW], "csv")))
    assert float(row["value"]) == 33.333333
    assert json.loads(render([ROW], "json"))[0]["n"] == 9673


def test_nothing_scored_is_no_zero() -> None:
    empty = replace(ROW, value=None, stderr=None, n=0, unscored=5)
    assert "–" in text([empty])
    assert json.loads(render([empty], "json"))[0]["value"] is None
    assert "& -- &" in render([empty], "latex")


def test_columns_that_say_nothing_are_left_out() -> None:
    assert "notes" not in text([ROW])
    assert "trials" not in text([ROW])
    assert "10 of 20 queries" in text([replace(ROW, covered=10, queries=20)])
    assert "trials" in text([ROW, replace(ROW, trials=3)])


def test_shots_rise_and_text_only_follows_zero() -> None:
    every = (Shots(16), Shots(2, text_only=True), Shots(4), Shots(0), Shots(1))
    rows = [replace(ROW, shots=shots) for shots in every]
    assert [str(row.shots) for row in order(rows)] == ["0", "0*", "1", "4", "16"]


def test_intervals_spread_and_marks_are_shown() -> None:
    row = replace(ROW, low=31.0, high=35.75, spread=2.5, trials=3)
    for shown in (text([row]), render([row], "markdown"), render([row], "latex")):
        assert "[31.00, 35.75]" in shown
    assert "2.50" in text([row]) and "2.50" in render([row], "markdown")
    assert "95 %" not in text([ROW]) and "spread" not in text([ROW])
    assert "the scale depends on the set" in render([replace(ROW, set_scaled=True)], "markdown")
    ablated = replace(ROW, ablation="labels")
    assert [r.setting for r in order([ablated, ROW, replace(ROW, shots=Shots(16))])] == [
        "4",
        "4 (labels)",
        "16",
    ]
    assert "4 (labels)" in text([ROW, ablated])


def test_what_tells_two_numbers_of_one_name_apart_is_a_column() -> None:
    assert "seed" not in text([ROW, ROW])
    assert "seed" in text([ROW, replace(ROW, seed=1)])
    named = replace(ROW, metric="clip_i", variant="mine", encoder="aaaaaaaa")
    assert "encoder" not in text([ROW, named])
    assert "encoder" in text([named, replace(named, encoder="bbbbbbbb")])
    assert "version" in text([ROW, replace(ROW, version=2)])
    judged = replace(ROW, metric="mm_vet", variant="own", judge="gpt-4")
    assert "mm_vet/own by gpt-4" in text([judged])


def test_imported_rows_are_never_of_our_protocols() -> None:
    theirs = replace(ROW, imported="lm-eval")
    lines = render([ROW, theirs], "markdown").splitlines()
    assert "| imported-lm-eval |" in "".join(lines)
    assert lines[2] != lines[3]


def test_programs_get_a_field_for_each_thing() -> None:
    row = replace(
        ROW, shots=Shots(2, text_only=True), ablation="labels", variant="official",
        marks=((Mark("flagged"), 3), (Mark("server", "gpt-4o"), 40)), sources={"queries": "hub"},
        size=Published(5, 10), changes=("task.output.beams=3",),
    )  # fmt: skip
    (read,) = json.loads(render([row], "json"))
    assert (read["shots"], read["ablation"], read["variant"]) == ("0*", "labels", "official")
    assert read["marks"] == ["flagged: 3", "server gpt-4o: 40"]
    assert read["size"] == {"here": 5, "official": 10}
    (line,) = csv.DictReader(io.StringIO(render([row], "csv")))
    assert line.keys() == read.keys()
    assert (line["shots"], line["marks"]) == ("0*", "flagged: 3; server gpt-4o: 40")
    assert (line["sources"], line["size"]) == ("queries: hub", "here: 5; official: 10")


def test_what_all_rows_share_stands_above() -> None:
    shown = text([ROW, replace(ROW, shots=Shots(8))])
    assert shown.splitlines()[0].startswith("task: easy-vqa · protocol: plain · split: test")
    assert "split" not in "".join(shown.splitlines()[1:])
    mixed = text([ROW, replace(ROW, protocol="emu2")])
    assert "protocol" in mixed.splitlines()[2]


def test_names_cannot_break_a_table() -> None:
    nasty = replace(ROW, model="[red]a|b_50%&\\x{}", task="$t#")
    assert "[red]a|b_50%" in text([nasty])
    assert r"a\|b_50%" in render([nasty], "markdown")
    latex = render([nasty], "latex")
    assert r"[red]a\textbar{}b\_50\%\&\textbackslash{}x\{\}" in latex
    assert latex.count(r" \\") == 2
    (row,) = csv.DictReader(io.StringIO(render([nasty], "csv")))
    assert row["model"] == nasty.model


def test_unknown_format() -> None:
    with pytest.raises(UnknownName, match="did you mean 'markdown'"):
        render([ROW], "markdwn")
