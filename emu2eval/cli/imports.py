"""`emu2eval import`: turning answers given elsewhere into a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from emu2eval.cli import completion
from emu2eval.cli.options import Out, Source, Task
from emu2eval.cli.say import print_rows, say

app = typer.Typer(rich_markup_mode=None)


@app.command(
    "import",
    epilog="""\b
Examples:
  emu2eval import samples_vqav2_val_2025-01-31T10-00-00.000000.jsonl \\
      --task vqav2
  emu2eval import 20250131_100000_samples_gqa.jsonl --task gqa \\
      --id submission.questionId
  emu2eval import vqa_answers.json --task vqav2 --model my-model --shots 4
  emu2eval import answers.tsv --task ./birds.yaml --id key --answer said \\
      --shots 0
  emu2eval import IMAGES/ --task easy-vqa-draw --model my-painter --shots 0

Accepted: sample logs of lm-evaluation-harness and lmms-eval (with the results file next to them); .jsonl,
.json, .csv and .tsv files with an id and an answer in each row; folders of images named by sample id. The
task's clean-up and scorer are applied, so the number is emu2eval's; scores in the log are kept, and the rate
of agreement is reported. Importing the same file again changes nothing.""",
)
def import_(
    path: Annotated[Path, typer.Argument(help="A file of answers, or a folder of images.")],
    task: Task,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="Model that produced the answers [default: from the log].",
            autocompletion=completion.models,
        ),
    ] = None,
    shots: Annotated[
        str | None,
        typer.Option(
            "--shots", "-k", help="Number of demonstrations shown [default: from the log]."
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Split of the queries [default: the task's own].")
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(help="Protocol whose clean-up and scorer are applied [default: the task's]."),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(help="Name of the source; tables show imported-LABEL [default: the harness]."),
    ] = None,
    id: Annotated[
        str | None,
        typer.Option(
            "--id",
            help="Column with the ids [default: the one that matches the data]; doc_id is a row number, "
            "verified against the text of the questions.",
        ),
    ] = None,
    answer: Annotated[
        str | None, typer.Option(help="Column with the answers [default: one of the usual names].")
    ] = None,
    filtered: Annotated[
        bool,
        typer.Option("--filtered", help="Use the log's filtered answers instead of the raw ones."),
    ] = False,
    filter: Annotated[
        str | None,
        typer.Option(
            "--filter", help="With several filters in a log: use the answers of this one."
        ),
    ] = None,
    source: Source = None,
    set_: Annotated[
        list[str], typer.Option("--set", help="task.KEY=VALUE, as in the YAML files.")
    ] = [],  # noqa: B006
    out: Out = None,
    groups: Annotated[bool, typer.Option("--groups", help="Show sub-scores too.")] = False,
    form: Annotated[
        str, typer.Option("--format", "-f", help="rich, markdown, csv, json or latex.")
    ] = "rich",
) -> None:
    """Import answers produced elsewhere as a run: logs of other harnesses, predictions, images."""
    from emu2eval.engine.options import RunOptions
    from emu2eval.imported.importing import ImportOptions, import_run
    from emu2eval.report.progress import Bars

    options = ImportOptions(label, model, shots, id, answer, filtered, filter)
    settings = RunOptions.of(split=split, protocol=protocol, source=source, changes=set_, out=out)
    with Bars() as bars:
        made = import_run(path, task, options, settings=settings, watcher=bars)
    if made.rows:
        print_rows(made.rows, form, groups)
    for agreement in made.agreements:
        say(str(agreement))
    if made.left:
        say(f"scores in the log that were not compared: {', '.join(made.left)}")
    say(f"{made.written:,} answers stored in {made.folder}")
