"""Headlines laid out as arrays give the numbers that comparing two runs gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import msgspec
import pytest

from emu2eval import evaluate
from emu2eval.compare import headlines
from emu2eval.compare.comparison import compare
from emu2eval.compare.headlines import Layout, compare_headlines
from emu2eval.errors import CompareError
from emu2eval.runs.scored import ScoredRun, read_run

Make = Callable[..., Path]


@pytest.fixture
def runs(make_task: Make, make_model: Make, tmp_path: Path) -> list[ScoredRun]:
    """Two models at two draws, one of which fails at some queries, and one without demonstrations."""
    task = str(make_task(30, 20, images=12))
    red = str(make_model("red", default="red"))
    mixed = str(make_model("mixed", replies={"square 1": "green"}, default="blue", fail=["e 5?"]))
    made = evaluate(task, [red, mixed], shots=[0, 2], trials=2, out=tmp_path / "runs")
    return [read_run(result.folder) for result in made]


def test_each_number_is_that_of_the_comparison(runs: list[ScoredRun]) -> None:
    some = replace(runs[1], scores=MappingProxyType(dict([*runs[1].scores.items()][7:])))
    every = [*runs, some]
    layout = Layout()
    laid = [layout(run) for run in every]
    pairs = [(a, b) for a in range(5) for b in range(5) if a != b]
    for (a, b), found in zip(pairs, compare_headlines(laid, pairs), strict=True):
        assert found == compare(every[a], every[b]).differences[0]
    # What runs have in common is kept once.
    assert laid[1].keys is laid[3].keys and laid[1].clusters is laid[3].clusters


def test_runs_that_cannot_be_compared_cost_only_their_own_pair(runs: list[ScoredRun]) -> None:
    head = msgspec.structs.replace(runs[0].rows[0], metric="another")
    other = replace(runs[0], rows=(head, *runs[0].rows[1:]))
    layout = Layout()
    found = [*compare_headlines([layout(run) for run in (*runs, other)], [(0, 4), (0, 2)])]
    assert isinstance(found[0], CompareError) and "metrics differ" in str(found[0])
    assert found[1] == compare(runs[0], runs[2]).differences[0]


def test_metrics_that_are_no_means_are_compared_a_few_times(
    runs: list[ScoredRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(headlines, "headline_of", lambda run, scorer: None)
    layout = Layout()
    laid = [layout(run) for run in runs]
    first, second = compare_headlines(laid, [(0, 2), (1, 3)], slow=1)
    assert first == compare(runs[0], runs[2]).differences[0]
    assert isinstance(second, CompareError) and "emu2eval compare" in str(second)
