"""The Markdown of a comparison, as it is posted: the conclusion first, nobody notified, nothing linked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from emu2eval.compare.comparison import Flip
from emu2eval.compare.gate import Gate
from emu2eval.report.comment import LONGEST, code, render
from tests.compare.test_gate import DIFFERENCE

FLIP = Flip("t", "a 4", "b 4", "@team", 0, 0, "c", 1.0, 0.0, "![x](http://y)", "`` ` ``", False)


def test_the_conclusion_stands_first_and_details_are_folded() -> None:
    made = render(
        [DIFFERENCE, replace(DIFFERENCE, group="kind: odd", p=0.5)], [FLIP], Gate(), ["c_run"], 7
    )
    first, *_ = made.splitlines()
    assert first == "**`b 4` is worse than `a 4` on `t` (at the 5 % level)**"
    assert (
        "| 60.00 | 57.00 | **−3.00** [-5.00, -1.00] | 0.0200 | 10 | 1 better, 4 worse | 🔴 worse |"
        in made
    )
    assert "<details><summary>1 of 7 samples that differ</summary>" in made
    assert "Without a counterpart: `c_run`" in made and made.count("kind: odd") == 1
    assert made.index("kind: odd") > made.index("All columns")


@pytest.mark.parametrize(
    ("gate", "change", "sign"),
    [
        (Gate(), {"difference": 3.0}, "🟢 better"),
        (Gate(), {"holm": 0.2}, "⚪ no significant difference"),
        (Gate(margin=5.0), {}, "⚪ no significant difference"),
        (Gate(), {"higher_is_better": False}, "🟢 better"),
    ],
)
def test_verdicts(gate: Gate, change: dict[str, object], sign: str) -> None:
    assert sign in render([replace(DIFFERENCE, **change)], [], gate)  # type: ignore[arg-type]


def test_several_are_counted() -> None:
    others = [replace(DIFFERENCE, second_run=f"b{i}", difference=1.0, holm=0.5) for i in range(2)]
    made = render([replace(DIFFERENCE, holm=0.01), *others], [], Gate(level=0.02))
    assert made.startswith(
        "**Of 3 comparisons: 1 worse, 0 better, 2 without a significant difference (at the 2 % "
        "level, corrected (Holm))**"
    )


def test_what_a_model_said_notifies_nobody_and_links_nothing() -> None:
    made = render([DIFFERENCE], [FLIP], Gate())
    assert "| `@team` |" in made and "`'![x]\\(http://y)'`" in made
    assert code("`` ` ``") == "``` `` ` `` ```" and code("") == "`  `"


def test_a_long_one_fits_a_comment() -> None:
    many = [
        replace(DIFFERENCE, second_run=f"b{i}", holm=0.5 if i % 9 else 0.01) for i in range(900)
    ]
    made = render(many, [FLIP] * 2000, Gate())
    assert len(made) < LONGEST + 2000 and "860 more comparisons not shown" in made
    assert made.count("🔴") == 40 and "Further details omitted" in made
