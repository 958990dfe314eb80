"""`emu2eval export`: results for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from emu2eval.cli.options import Out, Runs
from emu2eval.cli.say import put, report_lost, say
from emu2eval.errors import UserError

app = typer.Typer(rich_markup_mode=None)


@app.command(
    epilog="""\b
Examples:
  emu2eval export --format json --file results.json
  emu2eval export easy-vqa --format lm-eval --file for-lm-eval
  emu2eval export easy-vqa_4-shot_nearest --format model-index \\
      --file README-part.md
  emu2eval export --format wandb --file runs.jsonl

json: every number with its unit, interval and failures, and the identity of its run; --schema prints its JSON
Schema. lm-eval: a folder with results_DATE.json and samples_TASK_DATE.jsonl, in the format of
lm-evaluation-harness."""
)
def export(
    runs: Runs = None,
    form: Annotated[
        str, typer.Option("--format", "-f", help="json, lm-eval, wandb or model-index.")
    ] = "json",
    file: Annotated[
        Path | None,
        typer.Option(help="File to write (for lm-eval, a folder) [default: standard output]."),
    ] = None,
    out: Out = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of --format json instead.")
    ] = False,
) -> None:
    """Export the results of stored runs [default: all] in the formats of other tools; no account needed."""
    from emu2eval.exports import stored, trackers
    from emu2eval.runs import locate

    if schema:
        from emu2eval.exports.results import schema_text

        put(schema_text())
        return
    for name in runs or []:
        if name in trackers.FORMATS or name == "lm-eval":
            raise UserError(
                f"{name} is a format, not a run", hint=f"emu2eval export --format {name}"
            )
    found = stored.read(locate.find(runs or [], out))
    if form == "lm-eval":
        from emu2eval.exports import lm_eval

        if file is None:
            raise UserError(
                "this format writes a folder, so standard output cannot be used",
                hint="--file FOLDER",
            )
        for line in lm_eval.export(found.read, file):
            say(line)
        report_lost(found.lost)
        return
    text = trackers.render(found.read, form)
    if file is None:
        put(text)
    else:
        stored.write(text, file)
        say(f"wrote {file}")
    report_lost(found.lost)
