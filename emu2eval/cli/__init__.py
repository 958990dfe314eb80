"""The command line: thin commands, each of which calls what a notebook would call."""

from __future__ import annotations

import sys
import traceback

import typer

from emu2eval.cli import (
    compare,
    data,
    experiment,
    explain,
    export,
    imports,
    look,
    new,
    papers,
    run,
    stored,
    streams,
)
from emu2eval.cli.say import say
from emu2eval.errors import PartError, StoreError, UserError, lacking
from emu2eval.trust import trusting

app = typer.Typer(
    help="Few-shot multimodal evaluation: how well does a model learn from demonstrations with images?",
    epilog="Anywhere on the line: --debug shows the traceback of an error; --trust imports any module that a "
    "file or a stored run names, which runs its code.",
    no_args_is_help=True,
    add_completion=False,
    # Plain help: rich's help costs a quarter of a second, and `--help` should answer at once.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

# In the order in which `emu2eval --help` shows them.
app.add_typer(run.app)
app.add_typer(experiment.app)
app.add_typer(look.app)
app.add_typer(data.app, name="data")
app.add_typer(new.app, name="new")
app.add_typer(stored.app)
app.add_typer(compare.app)
app.add_typer(explain.app)
app.add_typer(imports.app)
app.add_typer(papers.app)
app.add_typer(export.app)

MANY = frozenset({"--task", "--model", "--shots", "--ablate", "--set", "--log"})
"""Options that take several values in one go, as in `--shots 0 4 8`."""


DEBUG = "--debug"
"""Shows the traceback of an error; may stand anywhere on the command line."""
TRUST = "--trust"
"""Imports whatever module a file or a record names, see `trust`; may stand anywhere, too."""


def main() -> None:
    """The `emu2eval` program. Exit codes: 2 for a usage or setup error, 3 for failed requests."""
    debug, trust = DEBUG in sys.argv[1:], TRUST in sys.argv[1:]
    rest = [argument for argument in sys.argv[1:] if argument not in (DEBUG, TRUST)]
    sys.argv[1:] = spread(rest)
    streams.prepare()
    try:
        with trusting(trust), streams.stopping() as caught:
            try:
                app()
            except SystemExit as ended:
                # Click ends with 1 where it was interrupted.
                if caught and ended.code == 1:
                    raise SystemExit(130) from None
                raise
            finally:
                unwritten = streams.finish()
                if unwritten is not None and not isinstance(unwritten, BrokenPipeError):
                    raise StoreError(
                        f"standard output could not be written ({unwritten.strerror})",
                        hint="what a run has answered is kept: emu2eval table shows it again",
                    )
    except (UserError, ModuleNotFoundError) as error:
        if debug:
            say(error.traceback if isinstance(error, PartError) else traceback.format_exc())
        if isinstance(error, ModuleNotFoundError):
            missing = lacking(error, "this")
            if missing is None:
                raise
            error = missing
        say(f"error: {error}")
        raise SystemExit(2) from None
    except BrokenPipeError:
        # The reader of the pipe, such as `head`, has closed it.
        streams.finish()
        raise SystemExit(0) from None
    except OSError as error:
        streams.finish()
        say(f"error: {error}\n  try:   what a run has answered is kept; the same command goes on")
        raise SystemExit(2) from None


def spread(arguments: list[str]) -> list[str]:
    """`--shots 0 4 8` -> `--shots 0 --shots 4 --shots 8`, for options of many values.

    >>> spread(["run", "--shots", "0", "4", "--limit", "5"])
    ['run', '--shots', '0', '--shots', '4', '--limit', '5']
    """
    short = {"-t": "--task", "-m": "--model", "-k": "--shots"}
    if arguments[:1] not in (["run"], ["reproduce"]):
        return arguments
    out: list[str] = []
    option = None
    taken = 0
    for argument in arguments:
        if argument.startswith("-") and argument != "-":
            option = short.get(argument, argument)
            option = option if option in MANY else None
            taken = 0
        elif option is not None:
            if taken:
                out.append(option)
            taken += 1
        out.append(argument)
    return out
