"""A kept table is compared with the one of now, number by number or line by line."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from emu2eval.cli import app
from emu2eval.errors import ConfigError, StoreError
from emu2eval.report import drift
from emu2eval.report.table import render
from tests.report.test_leaderboard import row

ROWS = [row("a", 60, run="r1", seconds=3.0), row("b", 50, run="r2", seconds=4.0)]
LATER = [row("c", 70, run="r3"), row("a", 60, run="r4", seconds=9.0), row("b", 51, run="r5")]


@pytest.mark.parametrize("end", [".csv", ".json"])
def test_numbers_are_found_by_what_they_are_of(end: str, tmp_path: Path) -> None:
    file = tmp_path / f"results{end}"
    file.write_text(render(ROWS, drift.FORMS[end]))
    assert drift.changes(file, render(ROWS, drift.FORMS[end])) == []
    found = drift.changes(file, render(LATER, drift.FORMS[end]))
    # Another place in the list, time or name of the run is no change.
    assert [c for c in found if " c " not in c.where] == [
        drift.Change("t test plain b 4 0 accuracy, value", "50", "51")
    ]
    assert all(c.kept is None for c in found if " c " in c.where)


def test_lines_of_markdown_differ_but_for_the_comment_above(tmp_path: Path) -> None:
    file = tmp_path / "results.md"
    file.write_text("<!-- made -->\n\n| a |\n| - |\n| 1 |\n")
    assert drift.changes(file, "| a |\n| - |\n| 1 |\n") == []
    assert drift.changes(file, "| a |\n| - |\n| 2 |\n| 3 |\n") == [
        drift.Change("line 3", "| 1 |", "| 2 |"), drift.Change("line 4", None, "| 3 |")
    ]  # fmt: skip


def test_what_is_no_kept_table_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.md, \.csv, \.json, \.tex"):
        drift.files(tmp_path / "table.txt", "emu2")
    with pytest.raises(ConfigError, match="contains no saved table emu2"):
        drift.files(tmp_path, "emu2")
    with pytest.raises(StoreError, match="cannot read"):
        drift.changes(tmp_path / "none.md", "")
    (tmp_path / "bad.json").write_text("[1")
    with pytest.raises(StoreError, match="damaged"):
        drift.changes(tmp_path / "bad.json", "[]")


def test_a_changed_number_of_a_paper_ends_with_4(tmp_path: Path) -> None:
    def table(*more: str) -> tuple[int, str]:
        done = CliRunner().invoke(
            app, ["table", "--paper", "flamingo", "--out", str(tmp_path), *more]
        )
        return done.exit_code, done.stdout

    kept = tmp_path / "flamingo.json"
    kept.write_text(table("--format", "json")[1])
    assert table("--check", str(tmp_path)) == (0, f"{kept}: unchanged\n")
    kept.write_text(kept.read_text().replace('"value": 56.3', '"value": 56.4'))
    code, said = table("--check", str(kept))
    assert code == 4 and "saved 56.4" in said and "now   56.3" in said
