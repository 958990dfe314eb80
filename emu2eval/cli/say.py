"""What verbs print: tables on standard output, all else on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from emu2eval.errors import UserError, printable


def say(text: str) -> None:
    print(printable(text), file=sys.stderr, flush=True)


def put(text: str) -> None:
    """Writes a table or a document to standard output."""
    sys.stdout.write(printable(text))


def console(*, err: bool = False) -> Any:
    from emu2eval.report.console import console

    return console(err=err)


def print_rows(rows: list[Any], form: str, groups: bool) -> None:
    from emu2eval.report.table import order

    print_table(order([row for row in rows if groups or row.group is None]), form)


def print_results(rows: list[Any], form: str, groups: bool) -> None:
    """What a run gave: models down and shots across where there are several of both, else a list."""
    from emu2eval.report import blocks

    if shown_in_blocks(rows, form, groups):
        console().print(blocks.tables(blocks.blocks(rows)))
        _explain(rows)
        say("for all columns, or as CSV, JSON or LaTeX: emu2eval table")
    else:
        print_rows(rows, form, groups)


def shown_in_blocks(rows: list[Any], form: str, groups: bool) -> bool:
    """Whether `print_results` sets models against shots, which leaves no column for the seed."""
    from emu2eval.report import blocks

    return form == "rich" and not groups and blocks.fits(rows)


def print_table(rows: list[Any], form: str, by: str | None = None) -> None:
    from emu2eval.report.table import render, rich_table

    if form == "rich":
        console().print(rich_table(rows, by=by))
        _explain(rows)
    else:
        put(render(rows, form))


def _explain(rows: list[Any]) -> None:
    """Prints the notes below a table."""
    from emu2eval.report.notes import explanations

    for line in explanations(rows):
        say(line)


@contextmanager
def stoppable() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        say("\nstopped; all answers so far are saved, run the same command again to continue")
        raise typer.Exit(130) from None


def say_damage(folders: Sequence[Path]) -> None:
    """Names the files that contain damaged answers, which count as missing."""
    from emu2eval.runs.health import damaged_answers

    for folder in folders:
        for path, count in damaged_answers(folder):
            lines = "1 damaged line was" if count == 1 else f"{count:,} damaged lines were"
            say(f"{lines} skipped in {path}; run (or import) again to fill in the missing answers")


def say_parts(out: Path | None) -> None:
    """Names the runs whose parts (`run --part`) are not put together, with how far they are."""
    from emu2eval.runs.locate import in_parts
    from emu2eval.runs.parts import unmerged

    for folder in in_parts(out):
        said = unmerged(folder)
        if said is not None:
            say(f"{said}; emu2eval merge {folder.name}")


def report_lost(lost: Sequence[UserError]) -> None:
    """Reports each run that could not be read, and why, and exits with code 3; the others were shown."""
    for error in lost:
        say(f"skipped: {error}")
    if lost:
        raise typer.Exit(3)


def report_failures(results: list[Any]) -> None:
    """Exits with code 3 if requests failed or a judge's replies could not be parsed, and says why."""
    failed = sum(result.failed for result in results)
    if failed:
        why = next(filter(None, (result.why for result in results)), "")
        say(
            f"{failed:,} {'request' if failed == 1 else 'requests'} failed and stay unscored; run the same "
            f"command again to retry. First error: {' '.join(why.split())[:300]}. For each error, see the "
            "`error` field in the run's responses.jsonl, or emu2eval show --run RUN --id ID"
        )
    for result in results:
        if not result.unread:
            continue
        count = sum(result.unread.values())
        judge = next((row.judge for row in result.rows if row.judge), None)
        than = f" than {judge}" if judge else ""
        why = max(result.unread, key=lambda reason: result.unread[reason])
        say(
            f"{result.folder.name}: the judge's replies to {count:,} {'answer' if count == 1 else 'answers'} "
            f"could not be parsed; most common reason: {why}. They are in judge/ in the run's folder. To use "
            f"another judge{than}: emu2eval score {result.folder.name} --judge MODEL"
        )
    if failed or any(result.unread for result in results):
        raise typer.Exit(3)
