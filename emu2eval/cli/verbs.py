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
        "Evaluate models": {
            "run": "Evaluate models on tasks and print the table",
            "experiment": "Write an experiment file that repeats stored runs",
            "show": "Print one exact prompt; for a run, also the answer",
            "features": "Compute the features that `rices` uses to find examples",
            "plan": "Show how a model fits on devices, without a GPU",
            "import": "Turn answers produced elsewhere into a run",
            "merge": "Put the parts of runs together (run --part)",
            "reproduce": "Reproduce a published table",
        },
        "View results": {
            "table": "Print stored runs, as a leaderboard or next to a paper",
            "curves": "Plot the few-shot curves of stored runs",
            "report": "Write an HTML page of runs: curves and every sample",
            "view": "Serve that page, and follow a run in progress",
            "sheet": "Draw a contact sheet of a run's generated images",
            "ls": "List tasks, suites, models, runs and other components",
        },
        "Analyse results": {
            "compare": "Compare runs sample by sample: is one better?",
            "diagnose": "Show what a model learns from demonstrations",
            "explain": "Explain why a number differs from the paper's",
            "score": "Rescore stored runs, without their model",
        },
        "Share and archive": {
            "submit": "Write the file that a test server expects",
            "export": "Export results in the formats of other tools",
            "push": "Upload runs to a dataset on the Hugging Face hub",
            "keep": "Save small records of runs as references",
            "repeat": "Repeat reference runs and report what differs",
        },
        "Set up": {
            "check": "Check the installation, a task, a model or an adapter",
            "data": "Show, check and download benchmark data",
            "new": "Create a task file from your data",
        },
    }
)
"""Heading -> verbs, in the order in which people look for them, with what each does in a line."""

EPILOG = """\b
Exit codes:
  0    done
  2    usage or setup error; the message says what, where and what to try
  3    some requests failed and stay unscored, or damaged runs were skipped
  4    a requested check failed: --fail-if, --check
  130  stopped by Ctrl-C or a scheduler; run it again to continue

Accepted anywhere: --debug shows the traceback of an error; --trust imports any module that a file or a
stored run names, which runs its code. Coming from lm-eval or VLMEvalKit? See docs/how-to/coming-from.md."""


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
