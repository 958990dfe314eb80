"""A run under every named rule: what fits it, what changes, and what comes nearest to a published number."""

from __future__ import annotations

import csv
import doctest
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest

from emu2eval import evaluate
from emu2eval.compare.explain import Explained, Explanation, explain
from emu2eval.engine import rules
from emu2eval.engine.results import Result
from emu2eval.errors import CompareError, UnknownName
from emu2eval.papers.published import load_paper
from emu2eval.report.explained import render
from emu2eval.scorers.letters import Rule
from emu2eval.scorers.vqa import VARIANTS
from emu2eval.spec import catalog

from ..tasks.layouts import mmbench, vizwiz

_TASKS = ("vizwiz", "mmmu", "mmbench", "pope")


@pytest.fixture(autouse=True)
def _few_tasks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """All shipped tasks take a while to read: here some of them."""
    known = {name: path for name, path in catalog.names("task").items() if name in _TASKS}
    rules._shipped.cache_clear()
    monkeypatch.setattr(rules, "catalog", SimpleNamespace(names=lambda kind: known))
    yield
    rules._shipped.cache_clear()


@pytest.fixture
def answered(
    tmp_path: Path, make_model: Any, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    """Runs a task on its files with a model that always says the same."""

    def run(task: str, reply: str, **options: Any) -> Result:
        {"vizwiz": vizwiz, "mmbench": mmbench}[task].write(tmp_path / "data")
        monkeypatch.setenv("EMU2EVAL_DATA", str(tmp_path / "data"))
        monkeypatch.setenv("EMU2EVAL_RUNS", str(tmp_path / "runs"))
        (result,) = evaluate(task, str(make_model(default=reply)), **options)
        return result

    return run


def way(made: Explained, rule: str, *clean: str) -> Explanation:
    (found,) = [each for each in made.ways if (each.rule, each.clean) == (rule, clean)]
    return found


def test_every_variant_and_clean_up_is_tried_and_nothing_stored_changes(
    answered: Callable[..., Result],
) -> None:
    result = answered("vizwiz", "It is green.")
    before = {path: path.read_bytes() for path in result.folder.rglob("*") if path.is_file()}
    made = explain(result.folder)
    assert {
        path: path.read_bytes() for path in result.folder.rglob("*") if path.is_file()
    } == before
    assert {each.rule for each in made.ways} == {f"variant={name}" for name in VARIANTS}
    own = made.ways[0]
    assert (own.own, own.rule, own.value, own.changed) == (True, "variant=vizwiz", 0.0, 0)
    assert [each.own for each in made.ways].count(True) == 1
    assert {each.clean for each in made.ways} == {
        ("first_line", "strip", "lower", "no_final_period"), ("short_answer",), ("openflamingo_vqa",), (),
    }  # fmt: skip
    lines = list(csv.DictReader(io.StringIO(render(made, "csv"))))
    listed = json.loads(render(made, "json"))["ways"]
    assert len(lines) == len(listed) == len(VARIANTS) * 4
    # Emu1's clean-up makes "green" of it: the one image that is green, of four.
    cut = way(made, "variant=always", "short_answer")
    assert (cut.value, cut.difference, cut.changed) == (25.0, 25.0, 1)
    (example,) = cut.examples
    assert (example.reply, example.was, example.became) == ("It is green.", "it is green", "green")
    assert (example.references, example.was_value, example.became_value) == (("green",), 0, 1)
    # Ten equal records leave each other out.
    assert way(made, "variant=openflamingo", "short_answer").value == 0.0
    assert (
        "nltk" in str(way(made, "variant=okvqa_porter").why)
        or way(made, "variant=okvqa_porter").value is not None
    )


def test_letters_are_read_by_every_rule_and_mmmus_code(answered: Callable[..., Result]) -> None:
    made = explain(answered("mmbench", "(B)").folder)
    read = {each.rule for each in made.ways}
    assert read == {*(f"rule={name}" for name in get_args(Rule)), "mmmu"}
    assert made.ways[0].rule == "rule=vlmevalkit-2026-06"
    exact = way(made, "rule=exact", "strip")
    assert exact.metric == "circular_accuracy/exact"
    assert (exact.changed or 0) > 0 and exact.examples[0].became is None


def test_what_comes_nearest_to_a_published_number_and_what_else_differs(
    answered: Callable[..., Result],
) -> None:
    result = answered("vizwiz", "It is green.", protocol="plain", limit=3)
    made = explain(result.folder, paper=load_paper("emu2"), table="1", against="emu2")
    assert made.against is not None and made.nearest is not None
    assert (made.against.shots, made.against.value, made.against.column) == ("0", 40.4, "VizWiz")
    offs = [abs(each.off) for each in made.ways if each.off is not None]
    assert abs(made.nearest.off or 0) == min(offs)
    said = " ".join(made.against.differs)
    assert "split val" in said and "protocol plain" in said and "a subset, 3 of 4 queries" in said
    with pytest.raises(CompareError, match=r"no number for Flamingo .* on vizwiz at 0 shots"):
        explain(result.folder, paper=load_paper("flamingo"), against="Flamingo (9B)")
    with pytest.raises(UnknownName):
        explain(result.folder, paper=load_paper("flamingo"), against="Flamigo")


def test_the_verb_prints_and_writes(
    answered: Callable[..., Result], program: Any, tmp_path: Path
) -> None:
    folder = str(answered("vizwiz", "It is green.").folder)
    code, out, _ = program(
        "explain", folder, "--paper", "emu2", "--table", "1", "--against", "emu2"
    )
    assert code == 0 and "closest" in out and "replies that differ" in out
    assert program("explain", folder, "--file", str(tmp_path / "why.md"))[0] == 0
    assert (tmp_path / "why.md").read_text().startswith("| task |")
    code, _, err = program("explain", folder, "--against", "emu2")
    assert code == 2 and "need --paper" in err


def test_examples_in_docstrings() -> None:
    found = doctest.testmod(rules)
    assert found.attempted and not found.failed


def test_a_reference_has_no_replies_to_explain() -> None:
    (folder,) = (Path(__file__).parents[2] / "results" / "reference").glob(
        "easy-vqa_4-shot_emu2-nano_*"
    )
    with pytest.raises(CompareError, match="no stored replies"):
        explain(folder)
