"""The tables that are kept in git: made of reference runs and published numbers alone, the same anywhere."""

from __future__ import annotations

from pathlib import Path

from emu2eval.papers.published import load_paper
from emu2eval.papers.rebuild import measured_run, rebuild
from emu2eval.report import leaderboard, paper
from emu2eval.report.table import order, render
from emu2eval.runs import locate
from emu2eval.runs.scores import read_rows
from emu2eval.spec import catalog

HEAD = "<!-- Made by `make tables`; changes by hand are lost. -->\n\n"


def texts(references: Path) -> dict[str, str]:
    """File name -> Markdown: one file a paper; of the references a table and a leaderboard."""
    scored = [
        (folder, found) for folder in locate.folders(references) if (found := read_rows(folder))
    ]
    rows = [row for _, found in scored for row in found]
    read = [measured_run(folder, found) for folder, found in scored]
    made = {}
    for name in catalog.names("paper"):
        source = load_paper(name)
        rebuilt = [rebuild(source, table, read) for table in source.spec.tables]
        made[f"{name}.md"] = f"{HEAD}{paper.render(rebuilt, 'markdown')}"
    if rows:
        whole = order([row for row in rows if row.group is None])
        made["reference.md"] = f"{HEAD}{render(whole, 'markdown')}"
        made["leaderboard.md"] = f"{HEAD}{leaderboard.render_board(rows, 'markdown')}"
    return made


def write(references: Path, folder: Path) -> list[Path]:
    """Writes the files; removes those of an earlier time that nothing stands for any more."""
    made = texts(references)
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.md"):
        if old.name not in made:
            old.unlink()
    for name, text in made.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in made]
