"""`emu2eval data get`: lists a benchmark's data, asks, and downloads it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, TypeVar

import typer

from emu2eval.cli import completion
from emu2eval.cli.options import Source
from emu2eval.cli.say import console, say
from emu2eval.errors import MissingData, UserError

Result = TypeVar("Result")


def get(
    task: Annotated[
        str, typer.Argument(help="Task name or .yaml file.", autocompletion=completion.tasks)
    ],
    split: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this split; may be repeated; `all` = every split [default: those of the queries "
            "and the demonstrations]."
        ),
    ] = None,
    source: Source = None,
    yes: Annotated[
        bool,
        typer.Option(
            "--yes", "-y", help="Do not ask for confirmation: the sizes and licences are fine."
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="List what would be downloaded, with every URL, and stop."),
    ] = False,
) -> None:
    """Download a benchmark's data: shows sizes and licences first, resumes after an interruption, verifies
    the files, and unpacks them where the task expects them."""
    if not bring_data(task, split or [], source, yes=yes, dry_run=dry_run):
        raise typer.Exit(3)


def bring_data(
    name: str,
    named: Sequence[str],
    source: str | None,
    *,
    yes: bool = False,
    dry_run: bool = False,
) -> bool:
    """Whether everything is there now. Raises UserError, and Exit where the user says no."""
    from emu2eval.data.sources import choose, get_command
    from emu2eval.doctor.get import shown
    from emu2eval.doctor.get.bring import bring
    from emu2eval.doctor.get.orders import orders, splits_of, with_sizes
    from emu2eval.spec.task import load_task

    task = load_task(name)
    splits = splits_of(task, named)
    for note in choose(task, splits, source)[1]:
        say(note)
    listed = with_sizes(orders(task, splits, source))
    if not listed and not task.spec.data.downloads:
        say(
            f"{task.name} needs no download: its data comes with an installed package or is your own"
        )
        return True
    if not listed:
        say(f"{task.name}, {' and '.join(splits)}: complete, in {task.root}")
        return True
    command = get_command(name, named, source)
    console(err=True).print(shown.asked(task, splits, listed, addresses=dry_run))
    able = [order for order in listed if order.items]
    if dry_run or not able:
        return dry_run
    if not yes and not _agreed(command):
        raise typer.Exit(1)
    left = listed
    try:
        # A second round downloads the files named by lists that came in the first.
        while able:
            with shown.GetBars(console(err=True), able) as bars:
                bring(task.root, able, bars)
            before, left = left, orders(task, splits, source)
            waited = {each.what for each in before if each.awaits is not None}
            able = [each for each in left if each.items and each.what in waited]
    except KeyboardInterrupt:
        say(f"\nstopped; downloaded parts are saved, to continue: {command} --yes")
        raise typer.Exit(130) from None
    for line in shown.remaining(task, task.root, left):
        say(line)
    if not left:
        say(f"{task.name}, {' and '.join(splits)}: complete, in {task.root}")
        say(f"to verify counts and images: emu2eval data check {shlex.quote(name)}")
    return not left


def _agreed(command: str) -> bool:
    if not interactive():
        raise UserError(
            "downloads need confirmation, and there is no terminal to ask on",
            hint=f"if the sizes and licences are fine: {command} --yes",
        )
    return typer.confirm("Download this now?", default=False, err=True)


def interactive() -> bool:
    """Whether there is somebody to ask."""
    return bool(sys.stdin and sys.stdin.isatty() and sys.stderr.isatty())


def with_data(work: Callable[[], Result]) -> Result:
    """Runs something that needs data; if data is missing, offers to download it, on a terminal."""
    try:
        return work()
    except UserError as error:
        missing = [part for part in error.parts if isinstance(part, MissingData) and part.task]
        if not missing or len(missing) < len(error.parts) or not interactive():
            raise
        say(f"{error}\n")
        for each in missing:
            if not bring_data(each.task or "", each.splits, each.source):
                raise typer.Exit(2) from None
    return work()
