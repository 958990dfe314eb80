"""`emu2eval --help`: the verbs in groups, by what one wants to do, in 80 columns."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import typer

from emu2eval.cli.line import unknown_verb

GROUPS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "Ask models": {
            "run": "Ask models every question of tasks, score, print the table",
            "experiment": "Write the file that would repeat stored runs",
            "show": "Print one prompt exactly; of a run, also what was answered",
            "features": "Compute the features by which `rices` finds examples",
            "plan": "Show what a model needs on which device, without a GPU",
            "import": "Make a run of answers that were given elsewhere",
            "reproduce": "Measure a published table again",
        },
        "See results": {
            "table": "Print stored runs, as a leaderboard or beside a paper",
            "curves": "Draw the few-shot curves of stored runs",
            "report": "Write a page of stored runs: curves and every sample",
            "view": "Serve that page, and follow a run that is under way",
            "sheet": "Draw prompts and images of a run on one sheet",
            "ls": "List tasks, suites, models, runs and all other parts",
        },
        "Understand them": {
            "compare": "Compare runs sample by sample: is it better?",
            "diagnose": "Say what a model takes from demonstrations",
            "explain": "Say why a number is not the paper's",
            "score": "Score stored runs again, without their model",
        },
        "Hand them on": {
            "submit": "Write the file that a test server wants",
            "export": "Write results as other tools read them",
            "push": "Upload runs to a dataset of the Hugging Face hub",
            "keep": "Keep small records of runs, to be repeated",
            "repeat": "Repeat kept runs, and say which answers differ",
        },
        "Set up": {
            "check": "Check the installation, a task, a model or an adapter",
            "data": "Which data is here, where it comes from, is it complete",
            "new": "Write a task's file from a look at the data",
        },
    }
)
"""Heading -> verbs, in the order in which people look for them, with what each does in a line."""

EPILOG = """\b
Exit codes:
  0    done
  2    a mistake, or something missing: what, where and what to try is said
  3    requests failed and are unscored, or damaged runs were left out
  4    a check that was asked for failed: --fail-if, --check
  130  stopped by Ctrl-C or a scheduler; the same command continues

Anywhere on the line: --debug shows the traceback of an error; --trust imports any module that a file or a
stored run names, which runs its code. docs/how-to/coming-from.md: what lm-eval, lmms-eval, VLMEvalKit say."""


class NearestVerb(typer.core.TyperGroup):
    """A verb that does not exist is answered with the nearest."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            raise unknown_verb(args[0], self.commands, ctx.command_path)
        return super().resolve_command(ctx, args)


class Verbs(NearestVerb):
    """The verbs under their headings."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        listed = {name for names in GROUPS.values() for name in names}
        others = {name: "" for name in self.commands if name not in listed}
        for heading, names in {**GROUPS, "More": others}.items():
            rows = [
                (name, said or command.get_short_help_str(limit=60))
                for name, said in names.items()
                if (command := self.commands.get(name)) is not None and not command.hidden
            ]
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)


_VALUES: Mapping[str, str] = MappingProxyType(
    {
        "task": "NAME",
        "model": "NAME",
        "judge": "NAME",
        "scorer": "NAME",
        "paper": "NAME",
        "encoder": "NAME",
        "run": "RUN",
        "shots": "K",
        "set_": "KEY=VALUE",
        "form": "FORMAT",
        "out": "FOLDER",
        "into": "FOLDER",
        "batch": "N|auto",
        "memory": "SIZES",
        "fail_if": "WHAT",
    }
)
"""Parameter -> what `--help` calls its value."""
_KINDS = {int: "N", float: "NUMBER", Path: "FILE"}


def name_values(command: Any) -> None:
    """Gives all that a command and those in it take a word for its value, in place of a type's name."""
    for inner in getattr(command, "commands", {}).values():
        name_values(inner)
    for param in command.params:
        if param.metavar is not None:
            continue
        if param.param_type_name == "argument":
            param.metavar = param.name.upper() + ("..." if param.nargs != 1 else "")
            param.display_type_rich = lambda ctx: None  # the type, which Typer says beside the word
        elif not param.is_flag:
            kind = getattr(getattr(param, "type_descriptor", None), "annotation", str)
            param.metavar = _VALUES.get(param.name) or _KINDS.get(kind, "TEXT")
