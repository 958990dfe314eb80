"""Runs that several processes answer: `run --part`, and `emu2eval merge`, which puts the parts together."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emu2eval.cli import completion
from emu2eval.cli.options import Form, JudgeName, Out, Sets
from emu2eval.cli.say import print_rows, report_failures, say, say_damage, stoppable

if TYPE_CHECKING:
    from emu2eval.runs.parts import RunPart

app = typer.Typer(rich_markup_mode=None)


def asked(text: str | None) -> RunPart | None:
    """What --part says, with the command that it stands in. Raises ConfigError."""
    if text is None:
        return None
    from emu2eval.runs.parts import RunPart

    return RunPart.parse(text, _without_part(sys.argv[1:]))


def _without_part(arguments: Sequence[str]) -> tuple[str, ...]:
    """
    >>> _without_part(["run", "-t", "a", "--part", "3/16", "--part=3/16"])
    ('run', '-t', 'a')
    """
    kept: list[str] = []
    value = False
    for argument in arguments:
        if not value and argument != "--part" and not argument.startswith("--part="):
            kept.append(argument)
        value = argument == "--part"
    return tuple(kept)


def report(results: Sequence[Any], part: RunPart | None) -> None:
    """Says how far the part of each run is, in place of a table; exits with code 3 if requests failed."""
    for result in results:
        tally = result.tally
        done = f"{tally.asked:,} requests asked, {tally.kept:,} answered before"
        say(f"{result.folder.parent.parent.name}, part {part}: {done}")
    say("when all parts have ended: emu2eval merge")
    report_failures(list(results))


@app.command(
    epilog="""\b
Examples:
  emu2eval merge
  emu2eval merge vqav2_4-shot_emu2_5e6f7a8b --clean
  emu2eval merge mm_vet_0-shot_emu2-chat --judge gpt-4-0613
  emu2eval merge results/runs --partial

The parts are those of emu2eval run --part 1/16, --part 2/16 and so on. No model is needed, and merging again
changes nothing. A run of which a part has not ended is left as it is, unless --partial is given.

Exit code 3: some requests failed or have no answer yet; they stay unscored."""
)
def merge(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            help="Runs, or a folder of runs [default: all that have parts].",
            autocompletion=completion.runs,
        ),
    ] = None,
    partial: Annotated[
        bool,
        typer.Option(
            "--partial", help="Also score runs with parts that have not ended, as far as they are."
        ),
    ] = False,
    clean: Annotated[
        bool,
        typer.Option(
            "--clean", help="Remove the parts once all of their answers are in the run's folder."
        ),
    ] = False,
    judge: JudgeName = None,
    set_: Sets = [],  # noqa: B006
    out: Out = None,
    groups: Annotated[bool, typer.Option("--groups", help="Show sub-scores too.")] = False,
    form: Form = "rich",
) -> None:
    """Put the parts of runs together (`run --part`), score them and print the table."""
    from emu2eval.engine.merging import Merged, merge
    from emu2eval.errors import UserError, raise_together
    from emu2eval.report.progress import Bars
    from emu2eval.runs import locate
    from emu2eval.spec.changes import Changes

    folders = locate.find(runs, out, parts=True) if runs else locate.in_parts(out)
    if not folders:
        say("no run has parts; for example: emu2eval run --task easy-vqa --shots 4 --part 1/2")
        return
    changes = Changes.of(set_)
    merged: list[Merged] = []
    wrong: list[UserError] = []
    with stoppable(), Bars() as bars:
        for folder in folders:
            try:
                merged.append(
                    merge(
                        folder,
                        partial=partial,
                        clean=clean,
                        judge=judge,
                        changes=changes,
                        watcher=bars,
                    )
                )
            except UserError as error:
                wrong.append(error)
    results = [each.result for each in merged]
    say_damage([result.folder for result in results])
    if results:
        print_rows([row for result in results for row in result.rows], form, groups)
    for each in merged:
        _say_unanswered(each.result.folder, each.unanswered, each.waiting)
    raise_together(wrong)
    report_failures(results)
    if any(each.unanswered for each in merged):
        raise typer.Exit(3)


def _say_unanswered(folder: Path, unanswered: int, waiting: Sequence[RunPart]) -> None:
    if not unanswered:
        return
    requests = "1 request has" if unanswered == 1 else f"{unanswered:,} requests have"
    named = ", ".join(str(part) for part in waiting[:6]) + (", …" if len(waiting) > 6 else "")
    of = f"give these parts again: {named}" if waiting else "give all parts again"
    say(f"{folder.name}: {requests} no answer yet and stay unscored; {of}, then emu2eval merge")
