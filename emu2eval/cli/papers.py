"""`emu2eval table --paper`, `reproduce` and `export`: comparing with papers, and passing results on."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from emu2eval.cli import completion
from emu2eval.cli.drift import check_kept
from emu2eval.cli.options import Batch, Device, Out
from emu2eval.cli.say import console, put, report_failures, report_lost, say
from emu2eval.errors import UnknownName

app = typer.Typer(rich_markup_mode=None)


def show_paper(
    paper: str,
    table: str | None,
    against: str | None,
    runs: list[str],
    out: Path | None,
    form: str,
    check: Path | None = None,
) -> None:
    """Prints a paper's tables with stored runs, by default all of them and the references; or checks them."""
    from emu2eval.papers.published import load_paper
    from emu2eval.papers.rebuild import measured_run, rebuild
    from emu2eval.report import paper as report
    from emu2eval.runs import locate
    from emu2eval.runs.scores import read_rows
    from emu2eval.runs.several import read_each
    from emu2eval.spec import catalog

    source = load_paper(paper)
    tables = [source.table(table)] if table is not None else list(source.spec.tables)
    folders = locate.find(runs, out)
    if not runs:
        folders += locate.folders(catalog.references_root())
    found = read_each(
        folders, lambda folder: measured_run(folder, rows) if (rows := read_rows(folder)) else None
    )
    read = [run for run in found.read if run is not None]
    made = [rebuild(source, each, read, against) for each in tables]
    if check is not None:
        check_kept(check, source.name, partial(report.render, made))
    elif form == "rich":
        for each in made:
            console().print(report.rich_table(each))
    else:
        put(report.render(made, form))
    report_lost(found.lost)


@app.command(
    epilog="""\b
Examples:
  emu2eval reproduce emu2 --table 1 --model emu2 --dry-run
  emu2eval reproduce emu2 --table 1 --model emu2 \\
      --set model.settings.checkpoint=Emu2
  emu2eval reproduce emu2 --table 1 --model ./mine.yaml --against emu2 \\
      --task okvqa textvqa --partial
  emu2eval reproduce emu2 --table 1 --model emu2 --fail-if not-reproduced \\
      --format markdown

Everything that is missing is listed at once: data, encoders, weights, memory. First, eight requests of each
run are timed (their answers are kept). Run the same command again to continue. Exit code 3: some requests
failed; 4: with --fail-if not-reproduced, a comparable number differs from the published one."""
)
def reproduce(
    paper: Annotated[
        str,
        typer.Argument(
            help="A paper: see emu2eval ls papers, or a .yaml file.",
            autocompletion=completion.papers,
        ),
    ],
    table: Annotated[str, typer.Option(help="Which of its tables.")],
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="Model name, .yaml file or folder.",
            autocompletion=completion.models,
        ),
    ],
    against: Annotated[
        str | None,
        typer.Option(
            help="The published model to compare with [default: the one with the model's name]."
        ),
    ] = None,
    task: Annotated[
        list[str],
        typer.Option(
            "--task", "-t", help="Only these tasks of the table.", autocompletion=completion.tasks
        ),
    ] = [],  # noqa: B006
    limit: Annotated[
        str | None,
        typer.Option(
            metavar="N|PART",
            help="Only N queries per task, or a fraction below 1; marked as not comparable.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed for drawing demonstrations.")] = 0,
    hidden: Annotated[
        bool,
        typer.Option(
            "--hidden",
            help="Use the paper's splits even if only a test server has the answers, instead of public ones.",
        ),
    ] = False,
    partial: Annotated[
        bool,
        typer.Option(
            "--partial", help="Measure whatever is possible, even if something is missing."
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Check, and estimate from stored runs; send no requests."),
    ] = False,
    judge: Annotated[str | None, typer.Option(help="The judge, for metrics that need one.")] = None,
    set_: Annotated[
        list[str], typer.Option("--set", help="task., model. or judge.KEY=VALUE.")
    ] = [],  # noqa: B006
    out: Out = None,
    batch: Batch = None,
    device: Device = None,
    fail_if: Annotated[
        str | None,
        typer.Option(
            "--fail-if", help="not-reproduced: exit with 4 if a number differs from the paper's."
        ),
    ] = None,
    form: Annotated[
        str, typer.Option("--format", "-f", help="rich, markdown, csv, json or latex.")
    ] = "rich",
) -> None:
    """Measure a published table again: check, estimate, run what is missing, compare."""
    from emu2eval.engine.options import RunOptions
    from emu2eval.papers import reproduce as made
    from emu2eval.papers.published import load_paper
    from emu2eval.report import paper as report
    from emu2eval.report import reproduced
    from emu2eval.report.progress import Bars

    if fail_if not in (None, "not-reproduced"):
        raise UnknownName("condition", str(fail_if), ["not-reproduced"], where="--fail-if")
    source = load_paper(paper)
    chosen = source.table(table)
    name = made.against_of(source, chosen, model, against)
    options = RunOptions.of(
        limit=limit, seed=seed, judge=judge, changes=set_, out=out, batch=batch, device=device
    )
    listed = made.wanted(source, chosen, name, task, hidden=hidden)
    able, lacks = made.ready(listed, model, options, partial=partial)
    for text in lacks:
        say(f"skipped: {text}")
    if dry_run:
        console().print(reproduced.cost_table(made.costs(able, model, options)))
        return
    aside = console(err=True)
    try:
        with Bars() as bars:
            costs = made.estimate(able, model, options, bars)
        aside.print(reproduced.cost_table(costs))
        with Bars() as bars:
            results = made.measure(able, model, options, bars)
    except KeyboardInterrupt:
        say("\nstopped; all answers so far are saved, run the same command again to continue")
        raise typer.Exit(130) from None
    rebuilt = made.beside(source, chosen, results, name)
    if form == "rich":
        console().print(report.rich_table(rebuilt))
    else:
        put(report.render([rebuilt], form))
    # Beside a table for programs, the summary for people goes where progress goes.
    found = reproduced.outcome(rebuilt, name)
    (console() if form == "rich" else aside).print(reproduced.outcome_table(found))
    report_failures(results)
    if fail_if is not None and any(each.verdict == "not reproduced" for each in found):
        raise typer.Exit(4)
