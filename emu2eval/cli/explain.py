"""`emu2eval explain`: a stored run under every named rule, and beside a published number."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from emu2eval.cli.options import Form, Out, Run
from emu2eval.cli.say import console, say, say_damage, stoppable
from emu2eval.errors import UserError

app = typer.Typer(rich_markup_mode=None)

_FORMS = {".csv": "csv", ".json": "json", ".md": "markdown", ".tex": "latex"}


@app.command(
    epilog="""\b
Examples:
  emu2eval explain vizwiz_4-shot_emu2_5e6f7a8b
  emu2eval explain vizwiz_4-shot_emu2_5e6f7a8b --paper emu2 --table 1
  emu2eval explain my-run --paper openflamingo --against OpenFlamingo-9B \\
      --file why.md

Rescores the stored replies under every variant of the scorer and every clean-up that shipped tasks use with
it, without the model or a judge; stored replies of a judge are used. No stored file changes. With a published
number it reports which combination comes closest, and what else differs: split, prompt, settings such as
decoding, number of samples."""
)
def explain(
    run: Run,
    paper: Annotated[
        str | None,
        typer.Option(help="The paper to compare with: see emu2eval ls papers, or a .yaml file."),
    ] = None,
    table: Annotated[
        str | None, typer.Option(help="With --paper: this table [default: the first that fits].")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            help="With --paper: the published model [default: the one that matches the run's model]."
        ),
    ] = None,
    examples: Annotated[
        int,
        typer.Option(
            min=0, help="Show up to N replies whose score changes under each combination."
        ),
    ] = 3,
    file: Annotated[
        Path | None, typer.Option(help="Write to a .csv, .json, .md or .tex file instead.")
    ] = None,
    out: Out = None,
    form: Form = "rich",
) -> None:
    """Explain why a number differs from the paper's: rescore the replies under every rule and clean-up."""
    from emu2eval.compare.explain import explain as made_of
    from emu2eval.papers.published import load_paper
    from emu2eval.report import explained
    from emu2eval.report.progress import Bars
    from emu2eval.runs import locate

    if paper is None and (table is not None or against is not None):
        raise UserError(
            "--table and --against need --paper", hint="emu2eval explain RUN --paper emu2"
        )
    if file is not None and file.suffix not in _FORMS:
        raise UserError(
            f"--file takes {', '.join(_FORMS)}, not {file.suffix or 'a name without an extension'}"
        )
    source = load_paper(paper) if paper is not None else None
    folder = locate.one(run, out)
    say_damage([folder])
    with stoppable(), Bars() as bars:
        made = made_of(
            folder, paper=source, table=table, against=against, examples=examples, watcher=bars
        )
    if file is not None:
        file.write_text(explained.render(made, _FORMS[file.suffix]), encoding="utf-8")
        say(f"wrote {file}: {len(made.ways):,} ways of scoring the run")
    elif form == "rich":
        console().print(explained.tables(made))
    else:
        typer.echo(explained.render(made, form), nl=False)
