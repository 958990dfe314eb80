"""The HTML report: one page of curves, bars, differences and every sample, which needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.progress import Progress

from emu2eval.errors import ConfigError, StoreError
from emu2eval.report.console import console
from emu2eval.report.page import html
from emu2eval.report.page.gather import gather
from emu2eval.report.page.matrix import matrices
from emu2eval.report.page.tables import Tables, Thumbnails
from emu2eval.runs.scored import read_run
from emu2eval.runs.several import read_each


@dataclass(frozen=True)
class WrittenPage:
    """What the page shows. promptless: why prompts are missing, once for each reason; lost: what is wrong
    with runs that cannot be read, which it leaves out."""

    runs: int
    samples: int
    images: int
    promptless: tuple[str, ...] = ()
    lost: tuple[StoreError, ...] = ()


def write(folders: Sequence[Path], file: Path, *, inline: bool = False) -> WrittenPage:
    """Writes the page of these runs. inline: images go into the page, not into a folder beside it.

    Raises ConfigError for another ending or no run, StoreError where none of them can be read or the page
    cannot be written. Runs whose data is not there are shown without their prompts.
    """
    if file.suffix not in (".html", ".htm"):
        raise ConfigError("a report is written as .html", where=file)
    if not folders:
        raise ConfigError("there is no run to report", hint="emu2eval ls runs")
    found = read_each(folders, read_run)
    runs = found.read
    beside = None if inline else file.with_name(f"{file.stem}_images")
    tables = Tables(Thumbnails(beside))
    with Progress(console=console(err=True), transient=True) as bars:
        reading = bars.add_task("reading samples", total=sum(len(run.scores) for run in runs))
        shown, sets = gather(runs, tables, lambda: bars.advance(reading))
        comparing = bars.add_task("comparing runs", total=None)
        differences = matrices(
            runs, lambda done, total: bars.update(comparing, completed=done, total=total)
        )
    page = {"runs": shown, "sets": sets, "matrices": differences, **tables.content()}
    html.save(page, file)
    reasons = dict.fromkeys(run["promptless"] for run in shown if run["promptless"])
    count = sum(len(run["answers"]) for run in shown)
    return WrittenPage(len(runs), count, len(tables.thumbnails.entries), tuple(reasons), found.lost)
