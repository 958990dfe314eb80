"""A check in CI fails on what is worse, and on nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from emu2eval import evaluate
from emu2eval.cli import app
from emu2eval.compare.comparison import Difference
from emu2eval.compare.gate import Gate
from emu2eval.errors import ConfigError

DIFFERENCE = Difference(
    task="t", protocol="plain", split="test", metric="accuracy", first="a 4", second="b 4",
    first_value=60.0, second_value=57.0, difference=-3.0, error=1.0, low=-5.0, high=-1.0, p=0.02,
    holm=None, mcnemar=None, wins=1, losses=4, ties=5, n=10, clusters=10, detectable=2.0, unmatched=0,
    unscored=0, first_run="a", second_run="b",
)  # fmt: skip


@pytest.mark.parametrize(
    ("gate", "change", "fails"),
    [
        (Gate(), {}, True),
        (Gate(level=0.01), {}, False),
        (Gate(), {"holm": 0.06}, False),  # corrected for all that were compared
        (Gate(), {"difference": 3.0}, False),
        (Gate(), {"higher_is_better": False}, False),
        (Gate(), {"higher_is_better": False, "difference": 3.0}, True),
        (Gate(), {"p": None}, False),
        (Gate(), {"difference": None}, False),
        (Gate(margin=2.5), {"p": 0.9}, True),
        (Gate(margin=3.0), {}, False),
        (Gate(margin=0.0), {"difference": 0.0}, False),
        (Gate(), {"group": "kind: odd"}, False),
    ],
)
def test_what_fails(gate: Gate, change: dict[str, Any], fails: bool) -> None:
    one = replace(DIFFERENCE, **change)
    assert gate.failing([one]) == ([one] if fails else [])


def test_the_first_metric_of_a_pair_decides() -> None:
    better = replace(DIFFERENCE, difference=1.0)
    assert Gate().failing([better, DIFFERENCE]) == []


@pytest.mark.parametrize(
    ("level", "margin"), [(0.05, 1.0), (0.0, None), (1.5, None), (None, -1.0), (None, float("nan"))]
)
def test_what_is_no_gate(level: float | None, margin: float | None) -> None:
    with pytest.raises(ConfigError):
        Gate.of("worse", level, margin)
    with pytest.raises(ConfigError, match="worse"):
        Gate.of("wors", None, None)


def test_the_command_ends_with_four(make_task: Any, make_model: Any, tmp_path: Path) -> None:
    task = str(make_task(40, images=20))
    good, bad = (
        str(evaluate(task, str(make_model(name, default=default)), out=tmp_path / "runs")[0].folder)
        for name, default in (("good", "red"), ("bad", "nothing"))
    )

    def ended(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["compare", *arguments])
        return done.exit_code, done.output

    code, said = ended(good, bad, "--fail-if", "worse", "--margin", "5")
    assert code == 4, said
    assert "failed: bad 0 is worse than good 0 on squares" in said
    assert ended(good, bad, "--fail-if", "worse")[0] == 0  # p = 0.125
    assert ended(good, bad, "--fail-if", "worse", "--level", "0.2")[0] == 4
    assert ended(bad, good, "--fail-if", "worse", "--level", "0.2")[0] == 0
    assert ended(good, good, "--fail-if", "worse", "--margin", "0")[0] == 0
    assert ended(good, bad)[0] == 0
