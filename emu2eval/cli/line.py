"""A command line as it is typed -> as Typer takes it; a mistake in it -> one paragraph."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import typer

from emu2eval.cli import peers
from emu2eval.cli.say import say
from emu2eval.errors import ConfigError, UnknownName, UserError

WRONG_USE: type[Any] = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "UsageError"
)
"""What Typer raises for a command line that it cannot read; it brings a copy of click's."""

_ASSIGNMENT = re.compile(r"(?:task|model|judge)\.[^=\s]+=")
_KINDS = {"integer": "a whole number", "number": "a number"}
_GREEDY = frozenset({"run", "reproduce"})
"""Verbs whose options of many values take all words up to the next option."""


def read(arguments: Sequence[str], program: Any) -> list[str]:
    """The arguments with what other harnesses call things in our words, and one value an option.

    Raises UserError with the command to type, where a word of theirs means nothing here.
    """
    given = list(arguments)
    if given and given[0].startswith("-") and given[0] not in _options(program):
        given = ["run", *given]
    if given[:1] == ["run"]:
        found = peers.understood(given[1:], _options(program.commands["run"]))
        if found is not None:
            refusal = found.refusal()
            if refusal is not None:
                raise refusal
            say(f"read as: {found.command}")
            for line in found.told:
                say(f"  {line}")
            given = found.arguments
    verb, depth = named_verb(given, program)
    return given if verb is None else [*given[:depth], *spread(given[depth:], verb)]


def named_verb(arguments: Sequence[str], program: Any) -> tuple[Any, int]:
    """The command that is named, and how many words name it; None where there is none."""
    found, depth = program, 0
    for word in arguments:
        inner = getattr(found, "commands", {}).get(word)
        if inner is None:
            break
        found, depth = inner, depth + 1
    return (None, 0) if found is program or hasattr(found, "commands") else (found, depth)


def _options(command: Any) -> list[str]:
    return [name for param in command.params for name in (*param.opts, *param.secondary_opts)] + [
        "-h",
        "--help",
    ]


def spread(arguments: Sequence[str], verb: Any) -> list[str]:
    """`--shots 0 4 8` -> `--shots 0 --shots 4 --shots 8`, for options of many values.

    Where a verb takes arguments, too, only assignments belong to the --set before them.
    """
    several = [param for param in verb.params if getattr(param, "multiple", False)]
    many = {name: param.opts[0] for param in several for name in param.opts}
    out: list[str] = []
    option, taken = None, 0
    for word in arguments:
        if word.startswith("-") and word != "-":
            name, equals, _ = word.partition("=")
            option, taken = many.get(name), int(bool(equals))
        elif option is not None:
            if taken and verb.name not in _GREEDY and not _belongs(option, word):
                option = None
            elif taken:
                out.append(option)
            taken += 1
        out.append(word)
    return out


def _belongs(option: str, word: str) -> bool:
    return option == "--set" and _ASSIGNMENT.match(word) is not None


def unknown_verb(name: str, verbs: Iterable[str], path: str = "emu2eval") -> UserError:
    said = peers.VERBS.get(name.lower()) if path == "emu2eval" else None
    if said is not None:
        return ConfigError(f"emu2eval has no verb {name}", hint=said)
    kind = "verb" if path == "emu2eval" else f"verb of {path}"
    return UnknownName(kind, name, verbs, hint=f"{path} --help describes each")


def explain(error: Any) -> NoReturn:
    """Raises what Typer says of a command line as a UserError, with the nearest word that there is."""
    context = error.ctx
    path = context.command_path if context is not None else "emu2eval"
    hint = f"{path} --help"
    option = getattr(error, "option_name", None)
    param = getattr(error, "param", None)
    if option is not None and type(error).__name__ == "NoSuchOption":
        known = _options(context.command)
        ours = peers.SAME.get(option, "--" + option.lstrip("-").replace("_", "-"))
        said = peers.ANSWERS.get(option) or peers.DONE.get(option)
        if ours in known:
            raise ConfigError(f"{path} has no option {option}; it is {ours} here", hint=hint)
        if said is not None:
            raise ConfigError(f"{path} has no option {option}: {said}", hint=hint)
        near = difflib.get_close_matches(option, [k for k in known if k[0] == "-"], n=2, cutoff=0.6)
        guess = f"; did you mean {' or '.join(near)}?" if near else ""
        raise ConfigError(f"{path} has no option {option}{guess}", hint=hint)
    if type(error).__name__ == "MissingParameter" and param is not None:
        kind = "argument" if param.param_type_name == "argument" else "option"
        name = param.name.upper() if kind == "argument" else param.opts[0]
        raise ConfigError(f"{path} needs the {kind} {name}", hint=hint)
    if param is not None:
        name = param.name.upper() if param.param_type_name == "argument" else param.opts[0]
        wanted = next((said for word, said in _KINDS.items() if word in error.message), None)
        raise ConfigError(
            f"{name} takes {wanted}" if wanted else f"{name}: {error.message}", hint=hint
        )
    raise ConfigError(str(error.message).rstrip("."), hint=hint)
