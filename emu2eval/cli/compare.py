"""`emu2eval compare` and `emu2eval diagnose`: stored runs side by side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from emu2eval.cli import completion
from emu2eval.cli.options import Form, Out, Runs
from emu2eval.cli.say import console, put, report_lost, say
from emu2eval.errors import CompareError, ConfigError, UserError

app = typer.Typer(rich_markup_mode=None)


@app.command(
    epilog="""\b
Examples:
  emu2eval compare easy-vqa_4-shot_nearest easy-vqa_4-shot_emu2-nano \\
      --flips 10
  emu2eval compare runs/before runs/after --groups --format markdown
  emu2eval compare main/results branch/results --fail-if worse \\
      --format markdown
  emu2eval compare --series runs/step-1000 runs/step-2000 runs/step-3000 \\
      --file steps.svg
  emu2eval compare --series runs/of-a-training

The first run is A, every other run is a B. Folders with several runs are matched by task, split, protocol
and shots, and their p-values are corrected together (Holm). Exit code 4: with --fail-if worse, a later run
is worse or a run has no counterpart; 3: runs that could not be read were skipped."""
)
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="Two or more runs, or folders of runs.", autocompletion=completion.runs
        ),
    ],
    flips: Annotated[
        int, typer.Option(min=0, help="List up to N samples on which they differ.")
    ] = 0,
    series: Annotated[
        bool,
        typer.Option(
            "--series",
            help="Checkpoints in order (of training steps, if recorded), each against the previous one.",
        ),
    ] = False,
    file: Annotated[
        Path | None, typer.Option(help="With --series: plot it to a .png, .svg or .pdf file.")
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Compare runs even if they differ in more than the model; marked in the table.",
        ),
    ] = False,
    fail_if: Annotated[
        str | None,
        typer.Option(
            "--fail-if", help="worse: exit with 4 if a later run is worse than the first."
        ),
    ] = None,
    level: Annotated[
        float | None,
        typer.Option(help="With --fail-if: worse means p below this [default: 0.05]."),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(help="With --fail-if: worse means by more than this, regardless of p."),
    ] = None,
    out: Out = None,
    groups: Annotated[bool, typer.Option("--groups", help="Show sub-scores too.")] = False,
    form: Form = "rich",
) -> None:
    """Compare stored runs sample by sample: differences, intervals, p-values, flipped samples."""
    from emu2eval.compare import pairing
    from emu2eval.compare.comparison import compare_all
    from emu2eval.compare.gate import Gate
    from emu2eval.report import comment, compared
    from emu2eval.runs import locate
    from emu2eval.runs.scored import read_run
    from emu2eval.runs.several import read_each

    if len(runs) < 2 and not series:
        begun = [path.name for path in locate.find(runs, out)] if runs else []
        raise CompareError(
            "a comparison needs at least two runs",
            hint=f"name two of: {', '.join(begun[:8])}{', …' if len(begun) > 8 else ''}"
            if len(begun) > 1
            else "emu2eval compare RUN RUN; for the stored runs: emu2eval ls runs",
        )
    if fail_if is None and (level is not None or margin is not None):
        raise ConfigError(
            "--level and --margin need --fail-if", hint="--fail-if worse --level 0.01"
        )
    if fail_if is not None and series:
        raise ConfigError(
            "--fail-if compares with the first run and cannot be combined with --series"
        )
    gate = None if fail_if is None else Gate.of(fail_if, level, margin)
    found = [read_each(locate.find([name], out), read_run) for name in runs]
    groups_ = [list(each.read) for each in found]
    lost = [error for each in found for error in each.lost]
    if series:
        _print_steps(pairing.compare_series(groups_, runs, force=force), file, form)
        report_lost(lost)
        return
    pairs, alone = pairing.partners(groups_, runs)
    made = compare_all(pairs, force=force)
    shown = [d for d in made.differences if groups or d.group is None]
    listed = made.flips[:flips]
    if form == "rich":
        console().print(compared.comparison_tables(made, listed, shown))
    elif form == "markdown":
        put(comment.render(shown, listed, gate or Gate(), alone, len(made.flips)))
    else:
        put(compared.render(shown, listed, form))
    for name in alone:
        say(f"no counterpart for {name}")
    failing = [] if gate is None else gate.failing(made.differences)
    for each in failing:
        say(f"failed: {compared.worse(each)}")
    report_lost(lost)
    if failing or (gate is not None and alone):
        raise typer.Exit(4)


@app.command(
    epilog="""\b
Examples:
  emu2eval run --task easy-vqa-binding --model emu2-nano --shots 0 8 \\
      --ablate none labels images blank
  emu2eval diagnose easy-vqa-binding"""
)
def diagnose(
    runs: Runs = None,
    out: Out = None,
    form: Form = "rich",
) -> None:
    """Show what a model learns from demonstrations (images, labels, format), and how often it copies."""
    from emu2eval.compare import diagnose as diagnosing
    from emu2eval.report import diagnosed
    from emu2eval.runs import locate
    from emu2eval.runs.apart import labels
    from emu2eval.runs.scored import read_run
    from emu2eval.runs.several import read_each

    found = read_each(locate.find(runs or [], out), read_run)
    read = list(found.read)
    parts = diagnosing.contributions(read)
    copies = []
    for run, model in zip(read, labels([run.record for run in read]), strict=True):
        try:
            made = diagnosing.copying(run)
        except UserError as error:
            say(f"no copy rate for {run.name}: {error.what}")
        else:
            copies += [replace(made, model=model)] if made is not None else []
    if not parts and not copies:
        raise UserError(
            "none of these runs has demonstrations",
            hint="emu2eval run … --shots 0 8 --ablate none labels images blank",
        )
    if form == "rich":
        console().print(diagnosed.tables(parts, copies))
    else:
        put(diagnosed.render(parts, copies, form))
    report_lost(found.lost)


def _print_steps(tracks: Any, file: Path | None, form: str) -> None:
    from emu2eval.report import steps as report

    steps = report.steps_of(tracks)
    if form == "rich":
        console().print(report.steps_table(steps))
    else:
        put(report.render(steps, form))
    if file is not None:
        report.draw(steps, file)
        say(f"wrote {file}")
