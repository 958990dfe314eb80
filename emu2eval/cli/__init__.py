"""The command line: thin commands, each of which calls what a notebook would call."""

from __future__ import annotations

import sys
import traceback
from functools import cache
from typing import Annotated, Any

import typer

import emu2eval
from emu2eval.cli import (
    compare,
    completion,
    data,
    experiment,
    explain,
    export,
    imports,
    line,
    look,
    new,
    papers,
    parts,
    plan,
    push,
    run,
    stored,
    streams,
    view,
)
from emu2eval.cli.say import put, say
from emu2eval.cli.verbs import EPILOG, Verbs, name_values
from emu2eval.errors import PartError, StoreError, UserError, lacking
from emu2eval.trust import trusting

app = typer.Typer(
    help="Few-shot multimodal evaluation: how well does a model learn from demonstrations with images?",
    epilog=EPILOG,
    cls=Verbs,
    no_args_is_help=True,
    # Plain help: rich's help costs a quarter of a second, and `--help` should answer at once.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
)


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version, and exit.")
    ] = False,
) -> None: ...


# In the order in which `emu2eval --help` shows them.
app.add_typer(run.app)
app.add_typer(parts.app)
app.add_typer(plan.app)
app.add_typer(experiment.app)
app.add_typer(look.app)
app.add_typer(data.app, name="data")
app.add_typer(new.app, name="new")
app.add_typer(stored.app)
app.add_typer(view.app)
app.add_typer(compare.app)
app.add_typer(explain.app)
app.add_typer(imports.app)
app.add_typer(papers.app)
app.add_typer(export.app)
app.add_typer(push.app)

DEBUG = "--debug"
"""Shows the traceback of an error; may stand anywhere on the command line."""
TRUST = "--trust"
"""Imports whatever module a file or a record names, see `trust`; may stand anywhere, too."""


def main() -> None:
    """The `emu2eval` program. Exit codes: 2 for a usage or setup error, 3 for failed requests."""
    debug, trust = DEBUG in sys.argv[1:], TRUST in sys.argv[1:]
    rest = [argument for argument in sys.argv[1:] if argument not in (DEBUG, TRUST)]
    streams.prepare()
    try:
        with trusting(trust), streams.stopping() as caught:
            try:
                code = _carry_out(rest)
                # An interruption that a verb let through.
                raise SystemExit(130 if caught and code == 1 else code)
            finally:
                unwritten = streams.finish()
                if unwritten is not None and not isinstance(unwritten, BrokenPipeError):
                    raise StoreError(
                        f"standard output could not be written ({unwritten.strerror})",
                        hint="all answers so far are saved; emu2eval table prints the results again",
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
        say(
            f"error: {error}\n  try:   all answers so far are saved; run the same command again to continue"
        )
        raise SystemExit(2) from None
    except Exception:
        streams.finish()
        say(
            f"{traceback.format_exc()}\nThis is a bug in emu2eval. Please report it together with "
            f"the output of: "
            "emu2eval check --report"
        )
        raise SystemExit(1) from None


def _carry_out(arguments: list[str]) -> int:
    """The exit code of a command line. Raises UserError, also for one that cannot be read."""
    if arguments[:1] == ["--version"]:
        put(f"emu2eval {emu2eval.__version__}\n")
        return 0
    program = _program_of(for_help=bool({"-h", "--help"} & set(arguments)) or not arguments)
    completion.prepare(program)
    try:
        given = line.read(arguments, program)
        code = program.main(given, prog_name="emu2eval", standalone_mode=False)
    except line.WRONG_USE as wrong:
        if type(wrong).__name__ == "NoArgsIsHelpError":
            put(f"{wrong.format_message()}\n")
            return 2
        line.explain(wrong)
    except typer.Abort:
        return 130
    return code if isinstance(code, int) else 0


@cache
def _program_of(for_help: bool) -> Any:
    """Every verb with its options, as Typer makes them of the functions: made once, it takes 60 ms."""
    program = typer.main.get_command(app)
    if for_help:
        name_values(program)
    return program
