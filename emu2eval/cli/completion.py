"""What the shell completes: `emu2eval --install-completion`, then a name and Tab."""

from __future__ import annotations

import os
import shlex
from typing import Any

COMPLETING = "_EMU2EVAL_COMPLETE"
"""Set by the shell where it asks; Typer then prints what fits and ends."""
BASH, OTHERS = ("COMP_WORDS", "COMP_CWORD"), "_TYPER_COMPLETE_ARGS"
"""Where bash, and zsh and fish, put the words so far."""


def tasks(incomplete: str) -> list[str]:
    from emu2eval.spec import catalog

    return _begin([*catalog.names("task"), *catalog.names("suite")], incomplete)


def models(incomplete: str) -> list[str]:
    from emu2eval.spec import catalog

    return _begin(catalog.names("model"), incomplete)


def papers(incomplete: str) -> list[str]:
    from emu2eval.spec import catalog

    return _begin(catalog.names("paper"), incomplete)


def runs(incomplete: str) -> list[str]:
    from emu2eval.runs import locate

    return _begin([folder.name for folder in locate.folders()], incomplete)


def ablations(incomplete: str) -> list[str]:
    from emu2eval.fewshot.ablate import ABLATIONS

    return _begin(ABLATIONS, incomplete)


def engines(incomplete: str) -> list[str]:
    from emu2eval.adapters.served.engines import ENGINES

    return _begin(ENGINES, incomplete)


def formats(incomplete: str) -> list[str]:
    return _begin(["rich", "markdown", "csv", "json", "latex"], incomplete)


def kinds(incomplete: str) -> list[str]:
    from emu2eval.report.listing import KINDS

    return _begin(KINDS, incomplete)


def _begin(names: Any, incomplete: str) -> list[str]:
    """The names that begin so; of a list with commas, its last one."""
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in names if name.startswith(last)]


def prepare(program: Any) -> None:
    """Where the shell asks: the words so far as Typer takes them, one value an option."""
    if COMPLETING not in os.environ:
        return
    words, place = BASH
    if words in os.environ:
        given = _split(os.environ[words])
        here = int(os.environ.get(place) or len(given) - 1)
        incomplete = given[here] if here < len(given) else ""
        known = _spread([*given[1:here], incomplete], program)
        os.environ[words] = shlex.join([given[0], *known])
        os.environ[place] = str(len(known))
    elif OTHERS in os.environ:
        text = os.environ[OTHERS]
        given = _split(text)
        new = text.endswith(" ") or len(given) < 2
        known = _spread([*given[1:], ""] if new else given[1:], program)
        joined = shlex.join([*given[:1], *known[:-1]])
        os.environ[OTHERS] = f"{joined} {shlex.quote(known[-1]) if known[-1] else ''}"


def _spread(words: list[str], program: Any) -> list[str]:
    from emu2eval.cli import line

    verb, depth = line.named_verb(words[:-1], program)
    return words if verb is None else [*words[:depth], *line.spread(words[depth:], verb)]


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:  # a quote that is still open
        return text.split()
