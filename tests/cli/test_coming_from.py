"""docs/how-to/coming-from.md says what the program does."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from emu2eval.cli import app, peers
from emu2eval.spec.elsewhere import said_elsewhere

DOCUMENT = Path(__file__).parents[2] / "docs/how-to/coming-from.md"
PROGRAM: Any = typer.main.get_command(app)
OWN = [name for param in PROGRAM.commands["run"].params for name in param.opts]
ROWS = [
    (theirs, ours, known)
    for theirs, ours, known in re.findall(
        r"^\| `([^`]+)` \| (?:`([^`]+)`|\((always)\)) \|$",
        DOCUMENT.read_text("utf-8"),
        re.MULTILINE,
    )
]


def test_all_rows_are_read() -> None:
    rows = [line for line in DOCUMENT.read_text("utf-8").splitlines() if line.startswith("| `")]
    assert len(rows) == len(ROWS) > 50


@pytest.mark.parametrize(("theirs", "ours", "always"), ROWS)
def test_a_row(theirs: str, ours: str, always: str) -> None:
    if not theirs.startswith("--"):
        assert said_elsewhere(theirs) == f"for {theirs}, use {ours}"
        return
    understood = peers.understood(shlex.split(theirs), OWN)
    if understood is None:
        assert theirs == ours
    elif always:
        assert understood.command == "emu2eval run" and understood.told and not understood.answers
    elif understood.answers:
        refusal = understood.refusal()
        assert refusal is not None and ours in str(refusal)
    elif understood.told:
        assert ours in " ".join(understood.told)
    else:
        assert understood.command == f"emu2eval run {ours}"
