"""`emu2eval new …`: first files of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from emu2eval.cli.say import console, put

app = typer.Typer(
    help="Create a first task file from your data.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.callback()
def _new() -> None:
    """Keeps `task` a word of the command line."""


@app.command(
    epilog="""\b
Examples:
  emu2eval new task birds --from photos/
  emu2eval new task my-vqa --from questions.csv
  emu2eval new task saved --from ./my_dataset --file tasks/saved.yaml"""
)
def task(
    name: Annotated[str, typer.Argument(help="The task's name; NAME.yaml is written.")],
    source: Annotated[
        Path,
        typer.Option(
            "--from",
            help="A table (.csv, .tsv, .jsonl, .json), .parquet, .tar shards, or a folder of these, of "
            "images, or one saved by `datasets`.",
        ),
    ],
    file: Annotated[Path | None, typer.Option(help="Where to write [default: NAME.yaml].")] = None,
) -> None:
    """Write a task file that fits your data.

    The role of each column is guessed, and comments say why.

    Nothing is downloaded, and no existing file is overwritten. The new file is checked right away.
    """
    from emu2eval.doctor.checks import findings
    from emu2eval.doctor.new_task.write import new_task

    path, listed = new_task(name, source, file)
    put(path.read_text(encoding="utf-8"))
    put(f"wrote {path}\n")
    table, good = findings(listed)
    console().print(table)
    if not good:
        raise typer.Exit(2)
