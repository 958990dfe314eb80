"""`emu2eval data …`: which data is present, whether it is complete and correct, and bringing it."""

from __future__ import annotations

from typing import Annotated

import typer

from emu2eval.cli import completion
from emu2eval.cli.get import get
from emu2eval.cli.options import Sets, Source
from emu2eval.cli.say import console
from emu2eval.cli.verbs import NearestVerb

app = typer.Typer(
    cls=NearestVerb,
    help="Show which benchmark data is present, check it, and download it.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command(
    epilog="""\b
Examples:
  emu2eval data status
  emu2eval data status vqav2 ./my_task.yaml flamingo"""
)
def status(
    tasks: Annotated[
        list[str] | None,
        typer.Argument(help="Task names or .yaml files.", autocompletion=completion.tasks),
    ] = None,
) -> None:
    """Show which data of each task is present or missing, its size, and where it comes from."""
    from emu2eval.doctor.data_status import status as table

    console().print(table(tasks or []))


@app.command(
    epilog="""\b
Examples:
  emu2eval data check vqav2
  emu2eval data check vqav2 --split val --images
  emu2eval data check vqav2 --split val --source hub"""
)
def check(
    task: Annotated[
        str, typer.Argument(help="Task name or .yaml file.", autocompletion=completion.tasks)
    ],
    split: Annotated[
        str | None, typer.Option(help="Only this split [default: all splits that are present].")
    ] = None,
    source: Source = None,
    images: Annotated[
        bool, typer.Option("--images", help="Also decode every image, and list broken ones.")
    ] = False,
    set_: Sets = [],  # noqa: B006
) -> None:
    """Check a task's data against the official counts, and check that every image exists."""
    from emu2eval.doctor.checks import findings
    from emu2eval.doctor.data_status import check as examine
    from emu2eval.spec.changes import Changes

    changes = Changes.of(set_)
    table, good = findings(examine(task, split, source, decode=images, changes=changes))
    console().print(table)
    if not good:
        raise typer.Exit(2)


app.command(
    epilog="""\b
Examples:
  emu2eval data get vqav2 --split val
  emu2eval data get textvqa --source hub --yes
  emu2eval data get vl_icl_clevr --dry-run

If interrupted, run the same command again to continue. Exit code 3: something must be downloaded by hand."""
)(get)
