"""`emu2eval run experiment.yaml`, and `emu2eval experiment`, which writes such a file of stored runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from emu2eval.cli import parts
from emu2eval.cli.get import with_data
from emu2eval.cli.logs import logged
from emu2eval.cli.options import Out, Runs
from emu2eval.cli.say import (
    console,
    print_results,
    put,
    report_failures,
    say,
    shown_in_blocks,
    stoppable,
)
from emu2eval.errors import UserError

app = typer.Typer(rich_markup_mode=None)

NOT_ASKED = frozenset({"experiment", "dry_run", "log", "groups", "form"})
"""Parameters of `run` that say how it is shown, and nothing of what is asked."""


def given(context: typer.Context) -> dict[str, Any]:
    """The options that stand on the command line, by the names of the parameters."""
    source = context.get_parameter_source
    return {
        name.rstrip("_"): value
        for name, value in context.params.items()
        if name not in NOT_ASKED and getattr(source(name), "name", "") == "COMMANDLINE"
    }


def run_experiment(
    file: str,
    options: Mapping[str, Any],
    *,
    dry_run: bool,
    log: Sequence[str],
    groups: bool,
    form: str,
) -> None:
    """Checks the whole file, says how much it is, runs what is not yet run; then the table and the page."""
    from emu2eval.engine.carrying import carry_out
    from emu2eval.engine.evaluation import planned
    from emu2eval.engine.experiment import jobs
    from emu2eval.engine.outlook import estimates
    from emu2eval.report.outlook import outlook
    from emu2eval.report.preview import preview
    from emu2eval.report.progress import Bars
    from emu2eval.runs.apart import read_table_run, told_apart
    from emu2eval.spec.experiment import read_experiment

    experiment = read_experiment(Path(file))

    def plan() -> Any:
        with Bars() as bars:
            return planned(jobs(experiment, options), bars, fetch=not dry_run)

    with stoppable():
        runs = with_data(plan)
    with stoppable(), Bars() as bars, logged([] if dry_run else log, bars) as told:
        say(f"{experiment.name}: {outlook(estimates(runs), len(runs))}")
        if dry_run:
            table = preview(runs, bars)
        else:
            results = carry_out(runs, told)
    if dry_run:
        console().print(table)
        return
    if options.get("part") is not None:
        parts.report(results, options["part"])
        return
    # As they are stored, with what tells them apart. Blocks have no column of seeds, lists have one.
    stored = [read_table_run(result.folder) for result in results]
    in_blocks = shown_in_blocks([row for run in stored for row in run.rows], form, groups)
    shown = told_apart(stored, seeds=in_blocks)
    print_results([row for run in shown for row in run.rows], form, groups)
    if experiment.spec.report is not None:
        from emu2eval.report import page

        page_file = experiment.beside(experiment.spec.report)
        page_file.parent.mkdir(parents=True, exist_ok=True)
        page.write([result.folder for result in results], page_file)
        say(f"wrote {page_file}")
    report_failures(results)


@app.command(
    epilog="""\b
Examples:
  emu2eval experiment easy-vqa --file experiment.yaml
  emu2eval run experiment.yaml --out results/again

In the same folder of runs, nothing is run again: those runs are complete."""
)
def experiment(
    runs: Runs = None,
    file: Annotated[
        Path | None, typer.Option(help="The .yaml file to write [default: standard output].")
    ] = None,
    out: Out = None,
) -> None:
    """Write an experiment file that repeats stored runs [default: all]."""
    from emu2eval.exports.experiment import written
    from emu2eval.exports.stored import write
    from emu2eval.runs import locate

    folders = locate.find(runs or [], out)
    if not folders:
        raise UserError("no runs to repeat", hint="emu2eval ls runs")
    text = written(folders)
    if file is None:
        put(text)
    else:
        write(text, file)
        say(f"wrote {file}, which repeats {len(folders):,} runs")
