"""A page for each verb of the command line, from the program itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer

from emu2eval.cli import app
from emu2eval.cli.verbs import EPILOG, GROUPS, name_values
from manual.text import code, doc, fence, heading, page, prose, table


def pages() -> Iterator[tuple[str, str]]:
    program = typer.main.get_command(app)
    name_values(program)
    yield "reference/cli/index.md", _index()
    listed = [name for names in GROUPS.values() for name in names]
    known = program.commands  # type: ignore[attr-defined]
    for name in [*listed, *sorted(set(known) - set(listed))]:
        if not known[name].hidden:
            yield f"reference/cli/{name}.md", _verb(f"emu2eval {name}", known[name])


def _index() -> str:
    groups = (
        f"{heading(2, group)}\n\n"
        + table(
            ("verb", ""), [(f"[`{name}`]({name}.md)", prose(said)) for name, said in verbs.items()]
        )
        for group, verbs in GROUPS.items()
    )
    codes = re.findall(r"(?m)^  (\d+) +(.*)$", EPILOG)
    return page(
        "# Command line",
        "`emu2eval VERB …`, or `python -m emu2eval VERB …`. `emu2eval VERB --help` prints what "
        "stands here. Options "
        "that take several values take them in a row or with commas: `--shots 0 4 8`, `--shots 0,4,8`.",
        *groups,
        heading(2, "Exit codes", "exit-codes"),
        table(("code", "meaning"), [(code(number), prose(said)) for number, said in codes]),
        heading(2, "Anywhere on the line", "anywhere"),
        "`--debug` shows the traceback of an error. `--trust` imports any module that a file or a "
        "stored run names, "
        "which runs its code. What lm-eval, lmms-eval and VLMEvalKit call these things is "
        "understood as well: "
        "[coming from another harness](../../how-to/coming-from.md).",
    )


def _verb(path: str, command: Any, level: int = 1) -> str:
    inner = getattr(command, "commands", None)
    title = heading(level, code(path), path.replace(" ", "-") if level > 1 else "")
    if inner:
        return page(
            title, doc(command.help or ""), *(_verb(f"{path} {n}", c, 2) for n, c in inner.items())
        )
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [
        each for each in command.params if each.param_type_name != "argument" and not each.hidden
    ]
    usage = " ".join(
        [path, *(["[OPTIONS]"] if options else []), *(_value(each) for each in arguments)]
    )
    return page(
        title,
        doc(command.help or ""),
        fence(usage, "text"),
        *_examples(command),
        table(("argument", ""), [(code(_value(each)), _help(each.help)) for each in arguments])
        if arguments
        else "",
        table(("option", "what it does"), map(_option, options)) if options else "",
    ).rstrip("\n")


def _value(argument: Any) -> str:
    return str(argument.metavar) if argument.required else f"[{argument.metavar}]"


def _option(option: Any) -> tuple[str, str]:
    names = [*option.opts, *option.secondary_opts]
    value = "" if option.is_flag else f" {option.metavar}"
    many = " Several values may follow." if getattr(option, "multiple", False) else ""
    default = option.default
    shown = (
        not option.is_flag
        and default not in (None, "", [], ())
        and "[default" not in (option.help or "")
    )
    word = ", ".join(map(str, default)) if isinstance(default, list | tuple) else str(default)
    said = f" Default: {code(word)}." if shown and not callable(default) else ""
    needed = " Required." if option.required else ""
    shown_as = " ".join(map(code, [*names[:-1], names[-1] + value]))
    return shown_as, _help(option.help) + many + said + needed


def _examples(command: Any) -> Iterator[str]:
    """The examples of its help, as lines to copy; other words of the epilog as they are."""
    for block in re.split(r"\n\s*\n", (command.epilog or "").replace("\b\n", "")):
        if block.startswith("Examples:"):
            lines = [line.strip() for line in block.splitlines()[1:]]
            yield fence("\n".join(_joined(lines)), "console")
        elif block.strip():
            yield _help(block)


def _joined(lines: list[str]) -> Iterator[str]:
    """Examples on a line each, though the help folds long ones."""
    kept = ""
    for line in lines:
        if kept and not line.startswith("emu2eval"):
            kept = f"{kept.removesuffix(chr(92)).rstrip()} {line}"
            continue
        if kept:
            yield kept
        kept = line
    if kept:
        yield kept


def _help(text: str | None) -> str:
    """Words of a help text; options in them as code."""
    return prose(re.sub(r"(?<![\w`'-])--?[a-z][\w-]*(?![\w`])", r"`\g<0>`", text or ""))
