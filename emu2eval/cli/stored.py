"""Stored runs: score, submit, table, curves, report, sheet, keep, repeat."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from emu2eval.cli import completion
from emu2eval.cli.drift import check_kept
from emu2eval.cli.options import Device, Form, JudgeName, Out, Run, Runs, ScorerName, Sets
from emu2eval.cli.papers import show_paper
from emu2eval.cli.say import (
    console,
    print_rows,
    print_table,
    put,
    report_failures,
    report_lost,
    say,
    say_damage,
    say_parts,
    stoppable,
)
from emu2eval.errors import ConfigError, UserError

app = typer.Typer(rich_markup_mode=None)


@app.command(
    epilog="""\b
Examples:
  emu2eval score easy-vqa_4-shot_nearest_1a2b3c4d
  emu2eval score results/runs/vqav2_4-shot_emu2_5e6f7a8b \\
      --set task.score.options.variant=always
  emu2eval score easy-vqa_4-shot_nearest_1a2b3c4d --scorer metric.py:token_f1
  emu2eval score mm_vet_0-shot_emu2-chat --judge gpt-4-0613"""
)
def score(
    run: Annotated[
        list[str],
        typer.Argument(
            help="Runs: paths, names or prefixes of names.", autocompletion=completion.runs
        ),
    ],
    judge: JudgeName = None,
    scorer: ScorerName = None,
    set_: Sets = [],  # noqa: B006
    out: Out = None,
    groups: Annotated[bool, typer.Option("--groups", help="Show sub-scores too.")] = False,
    form: Form = "rich",
) -> None:
    """Score stored runs again, without their model; a judge is asked only for what it has not judged yet."""
    from emu2eval.engine.reopen import score_again
    from emu2eval.report.progress import Bars
    from emu2eval.runs import locate
    from emu2eval.spec.changes import Changes

    changes, folders = Changes.of(set_), locate.find(run, out)
    say_damage(folders)
    with stoppable(), Bars() as bars:
        results = [
            score_again(each, changes, judge=judge, scorer=scorer, watcher=bars) for each in folders
        ]
    print_rows([row for result in results for row in result.rows], form, groups)
    report_failures(results)


@app.command(
    epilog="""\b
Examples:
  emu2eval submit vqav2_4-shot_emu2_5e6f7a8b
  emu2eval submit vqav2_4-shot_emu2_5e6f7a8b --file test-dev.json

Exit code 3: some questions of the run's split have no answer and were left empty."""
)
def submit(
    run: Run,
    file: Annotated[
        Path | None,
        typer.Option(help="File to write [default: submission.json in the run's folder]."),
    ] = None,
    out: Out = None,
) -> None:
    """Write the file that a hidden test split's server wants, complete, and check it."""
    from emu2eval.exports.submit import submit as write
    from emu2eval.runs import locate

    folder = locate.one(run, out)
    say_damage([folder])
    written = write(folder, file)
    say(written.summary())
    if written.unanswered:
        raise typer.Exit(3)


@app.command(
    epilog="""\b
Examples:
  emu2eval table
  emu2eval table easy-vqa --format markdown
  emu2eval table results/runs --groups --format csv
  emu2eval table --pivot --sort easy-vqa
  emu2eval table --by model --sort value
  emu2eval table --cost
  emu2eval table --paper emu2 --table 1 --format latex
  emu2eval table --paper emu2 --check results/tables"""
)
def table(
    runs: Runs = None,
    pivot: Annotated[
        bool,
        typer.Option(
            "--pivot",
            help="Print a leaderboard: one line per model, one column per task and number of shots.",
        ),
    ] = False,
    by: Annotated[
        str | None, typer.Option(help="Group by task, model, shots, protocol or split.")
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            help="Sort by a column (value: best first; -NAME: descending); with --pivot: model, rank or task."
        ),
    ] = None,
    paper: Annotated[
        str | None,
        typer.Option(help="Print next to the numbers of a paper: see emu2eval ls papers."),
    ] = None,
    number: Annotated[
        str | None, typer.Option("--table", help="With --paper: only this table.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(help="With --paper: the published model to compare all runs with."),
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option(
            "--check",
            help="A saved table (.md, .csv, .json, .tex), or with --paper a folder of them: report what "
            "has changed since, and exit with 4 if anything has.",
        ),
    ] = None,
    cost: Annotated[
        bool,
        typer.Option(
            "--cost", help="Print the tokens and money that servers charged, one line per run."
        ),
    ] = False,
    out: Out = None,
    groups: Annotated[bool, typer.Option("--groups", help="Show sub-scores too.")] = False,
    form: Form = "rich",
) -> None:
    """Print the table of stored runs [default: all], as a leaderboard, or next to a paper's numbers.

    Exit code 3: runs that could not be read were skipped; 4: with --check, the table has changed."""
    if paper is not None:
        show_paper(paper, number, against, runs or [], out, form, check)
        return
    if number is not None or against is not None:
        raise UserError("--table and --against need --paper", hint="emu2eval table --paper emu2")
    from emu2eval.report import blocks, leaderboard
    from emu2eval.report.table import render
    from emu2eval.runs import locate
    from emu2eval.runs.apart import read_table_run, told_apart
    from emu2eval.runs.several import read_each

    if cost:
        _show_cost(locate.find(runs or [], out), form)
        return
    found = read_each(locate.find(runs or [], out), read_table_run)
    if not runs:
        say_parts(out)
    rows = [row for run in told_apart(found.read, seeds=pivot) for row in run.rows]
    if not rows:
        where = f"in {out}" if out is not None else "yet"
        say(f"no runs {where}; for example: emu2eval run --task easy-vqa --shots 4")
        report_lost(found.lost)
        return
    shown = [row for row in rows if groups or row.group is None]
    if check is not None and pivot:
        check_kept(check, "leaderboard", lambda form: leaderboard.render_board(rows, form, sort))
    elif check is not None:
        listed = leaderboard.arranged(shown, by, sort)
        check_kept(check, "results", lambda form: render(listed, form))
    elif pivot and form == "rich":
        console().print(blocks.rich_board(rows, sort))
    elif pivot:
        put(leaderboard.render_board(rows, form, sort))
    else:
        print_table(leaderboard.arranged(shown, by, sort), form, by)
    report_lost(found.lost)


def _show_cost(folders: list[Path], form: str) -> None:
    from emu2eval.report.spent import render, rich_spent, spent_of
    from emu2eval.runs.several import read_each

    read = read_each(folders, spent_of)
    found = [each for run in read.read for each in run]
    if not found:
        say("none of these runs used a server, so there are no costs")
    elif form == "rich":
        console().print(rich_spent(found))
    else:
        put(render(found, form))
    report_lost(read.lost)


@app.command(
    epilog="""\b
Examples:
  emu2eval curves
  emu2eval curves easy-vqa --file easy-vqa.png"""
)
def curves(
    runs: Runs = None,
    file: Annotated[Path, typer.Option(help="A .png, .svg or .pdf file.")] = Path("curves.svg"),
    out: Out = None,
) -> None:
    """Draw the few-shot curves of stored runs [default: all] to a file; of a training over its steps, too."""
    from emu2eval.report import curves as drawing
    from emu2eval.report import steps as training
    from emu2eval.runs import locate
    from emu2eval.runs.apart import read_table_run, told_apart
    from emu2eval.runs.several import read_each

    found = read_each(locate.find(runs or [], out), read_table_run)
    told = told_apart(found.read)
    steps = training.trained(told)
    passed = training.overtaken(steps)
    rows = [row for run in told for row in run.rows[:1] if row.run not in passed]
    drawing.check(file, rows)
    drawing.paint([*drawing.panels(rows), *training.panels(steps)], file)
    say(f"wrote {file}")
    report_lost(found.lost)


@app.command(
    epilog="""\b
Examples:
  emu2eval report
  emu2eval report easy-vqa --file easy-vqa.html
  emu2eval report results/runs/before results/runs/after --file both.html \\
      --inline
  emu2eval report vqav2 --baseline emu2-chat --samples 5000

Images are stored as small copies in a folder next to the page; with --inline the page is a single file. It
works without a network. Press j and k to step through samples, ? for all keys. Numbers always cover all
answers; of large runs, a random part can be browsed (--samples sets its size)."""
)
def report(
    runs: Runs = None,
    file: Annotated[Path, typer.Option(help="The .html file to write.")] = Path("report.html"),
    inline: Annotated[
        bool, typer.Option("--inline", help="Embed the images: a single, larger file.")
    ] = False,
    samples: Annotated[
        int | None,
        typer.Option(
            min=1, help="Samples per run that can be browsed [default: as many as stay fast]."
        ),
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="The model to compare all others with.")
    ] = None,
    out: Out = None,
) -> None:
    """Write an HTML page of stored runs [default: all]: findings, curves, differences, samples."""
    from emu2eval.report import page
    from emu2eval.report.notes import counted
    from emu2eval.runs import locate

    folders = locate.find(runs or [], out)
    say_damage(folders)
    written = page.write(folders, file, inline=inline, samples=samples, baseline=baseline)
    for reason in written.promptless:
        say(f"prompts are not shown: {reason}")
    part = "" if written.samples == written.answers else f", {written.samples:,} of them browsable"
    say(f"wrote {file}: {counted(written.runs, 'run')}, {written.answers:,} answers{part}")
    report_lost(written.lost)


@app.command(
    epilog="""\b
Examples:
  emu2eval sheet easy-vqa-draw_0-shot_emu2-nano_1a2b3c4d
  emu2eval sheet easy-vqa-draw-names --file names.png --most 12"""
)
def sheet(
    run: Annotated[
        str,
        typer.Argument(
            help="A run with generated images: path, name or a prefix of its name.",
            autocompletion=completion.runs,
        ),
    ],
    file: Annotated[Path, typer.Option(help="A .png, .jpg, .webp or .pdf file.")] = Path(
        "sheet.png"
    ),
    most: Annotated[
        int, typer.Option(min=1, help="Maximum number of queries, spread evenly over the run.")
    ] = 48,
    out: Out = None,
) -> None:
    """Draw a contact sheet of a run: prompts, references and the generated images."""
    from emu2eval.report import sheet as drawing
    from emu2eval.runs import locate

    found = locate.find([run], out)
    if len(found) > 1:
        names = ", ".join(folder.name for folder in found[:3])
        raise ConfigError(f"{run!r} matches {len(found)} runs ({names}, …); a sheet shows one")
    say_damage(found)
    shown = drawing.draw(found[0], file, most)
    say(f"wrote {file}: {shown} queries")


@app.command(
    epilog="""\b
Examples:
  emu2eval keep easy-vqa_4-shot_emu2-nano
  emu2eval keep easy-vqa-binding --into my-references"""
)
def keep(
    run: Annotated[
        list[str],
        typer.Argument(
            help="Runs: paths, names or prefixes of names.", autocompletion=completion.runs
        ),
    ],
    into: Annotated[Path, typer.Option(help="Folder for reference runs.")] = Path(
        "results/reference"
    ),
    out: Out = None,
) -> None:
    """Save small records of finished runs, to repeat them later with `emu2eval repeat`."""
    from emu2eval.doctor import reference
    from emu2eval.runs import locate

    for folder in locate.find(run, out):
        say(f"saved {reference.keep(folder, into)}")


@app.command(
    epilog="""\b
Examples:
  emu2eval repeat
  emu2eval repeat results/reference/easy-vqa-binding* --limit 100

Exit code 1: more answers differ than a different processor explains."""
)
def repeat(
    references: Annotated[
        list[str] | None,
        typer.Argument(help="Folders of reference runs [default: results/reference]."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only N queries per run, a fixed subset.")
    ] = None,
    device: Device = None,
    out: Out = None,
) -> None:
    """Repeat reference runs with the current code and weights, and report which answers differ."""
    import tempfile

    from emu2eval.doctor import reference
    from emu2eval.report.progress import Bars
    from emu2eval.report.repeated import repeated_table
    from emu2eval.runs import locate

    folders = locate.find(references or ["results/reference"], out)
    with tempfile.TemporaryDirectory() as scratch, Bars() as bars:
        new = out or Path(scratch)
        results = [reference.repeat(f, new, limit, bars, device) for f in folders]
    console().print(repeated_table(results))
    if not all(result.agrees for result in results):
        raise typer.Exit(1)
