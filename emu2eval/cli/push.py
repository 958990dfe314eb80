"""`emu2eval push`: runs as a dataset of the Hugging Face hub."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from emu2eval.cli import completion
from emu2eval.cli.get import interactive
from emu2eval.cli.options import Out
from emu2eval.cli.say import say
from emu2eval.errors import UserError

app = typer.Typer(rich_markup_mode=None)

SHOWN = 12
"""Files that are named before anything is uploaded."""


@app.command(
    epilog="""\b
Examples:
  emu2eval push easy-vqa my-org/easy-vqa-runs --dry-run
  emu2eval push results/runs my-org/runs --yes
  emu2eval push easy-vqa-draw my-org/drawings --images

The content is listed before anything is uploaded. The dataset is private unless --public is given. The
questions, references and images of benchmarks have their own licences: texts are uploaded only with --texts,
images never."""
)
def push(
    runs: Annotated[
        list[str],
        typer.Argument(help="Paths, names or beginnings of names.", autocompletion=completion.runs),
    ],
    repo: Annotated[str, typer.Argument(help="The dataset: organization/name.")],
    images: Annotated[
        bool, typer.Option("--images", help="Include images that models generated.")
    ] = False,
    texts: Annotated[
        bool,
        typer.Option(
            "--texts", help="Include questions, prompts and references, if their licences allow it."
        ),
    ] = False,
    public: Annotated[bool, typer.Option("--public", help="Make the dataset public.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would be uploaded, and upload nothing.")
    ] = False,
    out: Out = None,
) -> None:
    """Upload stored runs and their table to a dataset on the Hugging Face hub."""
    from emu2eval.doctor.get.shown import in_bytes
    from emu2eval.exports.push import pack, upload
    from emu2eval.report.table import order, render
    from emu2eval.runs import locate
    from emu2eval.runs.apart import read_table_run, told_apart
    from emu2eval.runs.several import read_each

    folders = locate.find(runs, out)
    told = told_apart(read_each(folders, read_table_run).read)
    rows = order([row for run in told for row in run.rows if row.group is None])
    with tempfile.TemporaryDirectory() as scratch:
        packed = pack(
            folders, Path(scratch), repo, render(rows, "markdown"), drawn=images, texts=texts
        )
        files = packed.files()
        where = "public" if public else "private"
        say(
            f"{repo} ({where}): {packed.runs:,} runs, {len(files):,} files, {in_bytes(packed.size)}"
        )
        for name, count in files[:SHOWN]:
            say(f"  {name}: {in_bytes(count)}")
        if len(files) > SHOWN:
            say(f"  and {len(files) - SHOWN:,} more")
        drawn = f"{packed.drawn:,} generated images" if images else "no images"
        held = "benchmark questions, prompts and references" if texts else "no benchmark texts"
        say(f"  with {drawn}; {held}")
        for path in packed.paths:
            say(f"  a record contains a path on this machine: {path}")
        for note in packed.notes:
            say(f"  {note}")
        if dry_run:
            return
        if not yes:
            if not interactive():
                raise UserError("uploading needs confirmation", hint="--yes")
            typer.confirm("upload?", abort=True, err=True)
        say(f"uploaded to {upload(packed, repo, public=public)}")
