"""benchmarks/measuring.py: ways take turns, and what was promised comes last, in one table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from emu2eval import evaluate

Import = Callable[[str], ModuleType]


def test_ways_take_turns_and_every_second_turn_is_backwards(benchmark_module: Import) -> None:
    measuring = benchmark_module("measuring")
    done: list[str] = []
    ways = {name: lambda name=name: done.append(name) for name in ("plain", "here")}
    found = measuring.in_turn(ways, repeats=2, warm=1)
    assert done == ["plain", "here", "here", "plain", "plain", "here"]
    assert {name: len(times) for name, times in found.times.items()} == {"plain": 2, "here": 2}


def test_a_ratio_is_the_median_over_the_turns(benchmark_module: Import) -> None:
    turns = benchmark_module("measuring").Turns(
        {"plain": [6.0, 20.0, 9.0], "here": [2.0, 2.0, 3.0]}
    )
    assert turns.ratio("plain", "here") == 3.0
    assert turns.median("plain") == 9.0


def test_headlines_stand_in_one_table(
    benchmark_module: Import,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    measuring = benchmark_module("measuring")
    monkeypatch.setenv(measuring.HEADLINES, str(tmp_path / "kept"))
    measuring.headline("planning", "8 shots", 6.1, 5)
    measuring.headline("servers", "9 images", 1.2, 1.5, most=True)
    printed = capsys.readouterr().out
    assert "planning, 8 shots: 6.10x (at least 5)" in printed
    measuring.headlines(tmp_path / "kept")
    assert [line.split() for line in capsys.readouterr().out.splitlines()[1:]] == [
        "planning 8 shots 6.10x at least 5".split(),
        "servers 9 images 1.20x at most 1.5".split(),
    ]


def test_the_small_task_is_one(benchmark_module: Import, tmp_path: Path) -> None:
    task = benchmark_module("measuring").squares(tmp_path / "task", queries=3, pool=4, side=8)
    (result,) = evaluate(task, "most-common", shots=2, out=tmp_path / "runs")
    assert result.rows[0].n == 3
