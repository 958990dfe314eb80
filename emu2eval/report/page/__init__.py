"""The HTML report: one page of findings, curves, differences, tables and samples, which needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from emu2eval.errors import ConfigError, StoreError
from emu2eval.report.page import html
from emu2eval.report.page.build import Built, build
from emu2eval.report.page.progress import told_bars
from emu2eval.report.page.tables import Thumbnails, beside, inside


@dataclass(frozen=True)
class WrittenPage:
    """What the page shows. answers: all that its numbers are made of; samples: answers that can be looked at;
    promptless: why prompts are missing, once for each reason; lost: what is wrong with runs that cannot be
    read, which it leaves out."""

    runs: int
    answers: int
    samples: int
    images: int
    promptless: tuple[str, ...] = ()
    lost: tuple[StoreError, ...] = ()


def write(
    folders: Sequence[Path],
    file: Path,
    *,
    inline: bool = False,
    samples: int | None = None,
    baseline: str | None = None,
) -> WrittenPage:
    """Writes the page of these runs. inline: images go into the page, not into a folder beside it.
    samples: how many of each run can be looked at; None for as many as a page opens at once with.
    baseline: the model that others are compared with.

    Raises ConfigError for another ending, no run or an unknown baseline, StoreError where none of them can be
    read or the page cannot be written. Runs whose data is not there are shown without their prompts.
    """
    if file.suffix not in (".html", ".htm"):
        raise ConfigError("a report must be an .html file", where=file)
    if not folders:
        raise ConfigError("no runs to report on", hint="emu2eval ls runs")
    keep = inside if inline else beside(file.with_name(f"{file.stem}_images"))
    with told_bars() as told:
        built = build(folders, Thumbnails(keep), samples=samples, baseline=baseline, told=told)
        html.save(built.content, file)
    return written(built)


def written(built: Built) -> WrittenPage:
    runs = built.content.head["runs"]
    reasons = dict.fromkeys(run["promptless"] for run in runs if run["promptless"])
    return WrittenPage(
        runs=len(runs),
        answers=sum(run["answers"] for run in runs),
        samples=sum(run["shown"] for run in runs),
        images=len(built.content.images),
        promptless=tuple(reasons),
        lost=built.lost,
    )
