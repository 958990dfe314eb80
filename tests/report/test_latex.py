"""Tables for an article: what stands in the float, and that LaTeX compiles it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from emu2eval.papers.published import load_paper
from emu2eval.papers.rebuild import rebuild
from emu2eval.report import latex, leaderboard, paper, table
from emu2eval.report.formats import Column
from emu2eval.types import Row
from tests.report.test_leaderboard import row

ROWS = [
    row("a_b", 60, task="vqa & more"), row("[c]", 50, task="vqa & more"), row("a_b", 70, task="u"),
    row("[c]", 70, task="u"),
]  # fmt: skip


def test_what_neighbours_share_stands_above_them_and_the_best_is_bold() -> None:
    made = leaderboard.render_board(ROWS, "latex")
    assert r"\multicolumn{1}{c}{vqa \& more}" in made and r"\cmidrule(lr){2-2}" in made
    assert r"\textbf{60.0 $\pm$1.0 \textsuperscript{1}}" in made
    assert made.count(r"\textbf{") == 1  # two equal numbers have no best
    assert r"\label{tab:leaderboard}" in made and "{[}c] & " in made


def test_a_list_says_in_its_caption_what_all_rows_share() -> None:
    rows = [row("a", 60), row("b", 50)]
    made = table.render(rows, "latex")
    assert r"\caption{task: t. protocol: plain. split: test. metric: accuracy.}" in made
    assert r"\textbf{60.00}" in made and r"\textbf{50.00}" not in made


def test_a_line_too_long_goes_on_below_without_empty_rows() -> None:
    def cell(row: int, place: int) -> str:
        return "–" if row and place > 4 else "0" * 19

    columns: list[Column[int]] = [Column("model", lambda r: f"m{r}")]
    columns += [Column(f"c{i}", lambda r, i=i: cell(r, i), number=True) for i in range(10)]  # type: ignore[misc]
    made = latex.table(columns, [0, 1], label="x", split=True)
    assert made.count(r"\toprule") == 2 and made.count(r"\resizebox") == 1
    assert made.count("m0 &") == 2 and made.count("m1 &") == 1


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex, of TeX Live")
def test_an_article_compiles_with_every_table(tmp_path: Path) -> None:
    every = "".join(sign for sign in latex._COMMANDS if sign != "\\") + "\\ é ü ß"
    odd: list[Row] = [row(every, 60), row("b", 50)]
    emu2 = load_paper("emu2")
    texts = [
        leaderboard.render_board([*ROWS, *odd], "latex"),
        table.render([*ROWS, *odd], "latex"),
        paper.render([rebuild(emu2, each, []) for each in emu2.spec.tables], "latex"),
    ]
    lines = [r"\documentclass{article}", r"\usepackage{booktabs}", r"\usepackage{graphicx}"]
    lines += [r"\begin{document}", *texts, r"\end{document}"]
    (tmp_path / "article.tex").write_text("\n".join(lines), encoding="utf-8")
    command = [
        "pdflatex",
        "-interaction=nonstopmode",
        "-halt-on-error",
        "-no-shell-escape",
        "article",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout
