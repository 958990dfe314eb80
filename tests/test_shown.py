"""Messages show values as people write them."""

from __future__ import annotations

from typing import Any

import pytest

from emu2eval.engine.options import RunOptions
from emu2eval.errors import ConfigError, shown
from emu2eval.report.notes import explanations
from emu2eval.types import Row, Shots


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "null"),
        (True, "true"),
        (0.5, "0.5"),
        ("no", "'no'"),
        (("a", None, {"k": False}), "[a, null, {k: false}]"),
    ],
)
def test_a_value_is_shown_as_a_file_would_have_it(value: Any, said: str) -> None:
    assert shown(value) == said


def test_an_option_says_what_it_was_given() -> None:
    with pytest.raises(ConfigError, match=r"--fit cannot be null"):
        RunOptions.of(fit=None)


def test_what_makes_people_wonder_is_said_once() -> None:
    def row(value: float, chance: float | None = None) -> Row:
        return Row(
            run="r", task="t", model="m", shots=Shots(0), protocol="p", split="s", metric="accuracy",
            value=value, stderr=1.58, n=9, unscored=0, covered=9, queries=9, chance=chance,
        )  # fmt: skip

    assert list(explanations([row(50.0)])) == []
    level, chance = explanations([row(100.0), row(0.0, 25.0)])
    assert "all scores are equal" in level and "guessing" in chance
