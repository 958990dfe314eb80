"""Suites, lists and patterns: what the names of tasks stand for."""

from __future__ import annotations

from pathlib import Path

import pytest

from emu2eval.engine.options import RunOptions, parsed_limit
from emu2eval.engine.wanted import wanted, wanted_models
from emu2eval.errors import ConfigError, UnknownName
from emu2eval.papers.published import load_paper
from emu2eval.spec import catalog, suites
from emu2eval.spec.elsewhere import NAMES
from emu2eval.spec.task import load_task


@pytest.mark.parametrize("name", sorted(catalog.names("suite")))
def test_a_suite_that_is_shipped(name: str) -> None:
    suite = suites.load_suite(name)
    assert suite.name == name and name not in catalog.names("task")
    for entry in suite.entries:
        changes = wanted([name], RunOptions())[0].options.changes if entry.set else None
        load_task(
            entry.task,
            split=entry.split,
            protocol=entry.protocol,
            overrides=changes.task if changes else {},
        )


@pytest.mark.parametrize(
    ("suite", "paper", "tables"),
    [
        ("emu2-table1", "emu2", ["1"]),
        ("emu2-table2", "emu2", ["2"]),
        ("emu2-table3", "emu2", ["3"]),
        ("emu2-images", "emu2", ["4", "4-autoencoding", "5"]),
        ("openflamingo", "openflamingo", ["11"]),
        ("flamingo", "flamingo", ["3"]),
    ],
)
def test_a_suite_is_the_table_that_it_is_named_after(
    suite: str, paper: str, tables: list[str]
) -> None:
    found = [load_paper(paper).table(name) for name in tables]
    columns = {
        (c.task, c.stand_in or c.split, c.protocol, c.set)
        for table in found
        for c in table.columns
        if c.task in catalog.names("task")
    }
    entries = suites.load_suite(suite).entries
    ours = {(e.task, e.split or load_task(e.task).split, e.protocol, e.set) for e in entries}
    assert ours == columns
    # Tables mix models that were shown nothing with those at 0*; the suite asks as the paper's own model.
    shown = {table.shots_of(row) for table in found for row in table.rows}
    assert {str(k) for e in entries for k in e.shots or ()} <= shown


def test_the_shots_of_a_suite_and_those_of_the_call() -> None:
    own = wanted(["vl_icl"], RunOptions())
    assert {w.task: w.options.shots for w in own}["vl_icl_open_mi"] == (0, 1, 2, 4, 5)
    assert {w.options.shots for w in wanted(["vl_icl"], RunOptions.of(shots=2))} == {(2,)}
    assert wanted(["gqa"], RunOptions())[0].options.shots == ()
    (first, *_) = wanted(["openflamingo"], RunOptions.of(protocol="plain"))
    assert (first.task, first.options.protocol) == ("coco_caption", "plain")
    vizwiz = next(w for w in wanted(["openflamingo"], RunOptions()) if w.task == "vizwiz")
    assert vizwiz.options.changes.task == {"score.options.variant": "vizwiz"}


def test_lists_and_patterns() -> None:
    assert [w.task for w in wanted(["gqa,refcoco*", "gqa"], RunOptions())] == [
        "gqa",
        "refcoco",
        "refcoco_plus",
        "refcocog",
    ]
    assert wanted_models(["most-common,nearest", "emu2-nano-early-*"]) == [
        "most-common",
        "nearest",
        "emu2-nano-early-1",
        "emu2-nano-early-2",
        "emu2-nano-early-3",
    ]
    assert RunOptions.of(shots=["0,4", "0*", 8]).shots == ("0", "4", "0*", 8)
    with pytest.raises(UnknownName, match="nothing matches the pattern 'vq_x"):
        wanted(["vq_x*"], RunOptions())


def test_files_by_a_pattern_and_a_name_with_a_comma(tmp_path: Path) -> None:
    for name in ("a,b.yaml", "c.yaml"):
        (tmp_path / name).write_bytes(catalog.names("task")["gqa"].read_bytes())
    assert suites.listed("task", "./a,b.yaml") == ["./a,b.yaml"]
    assert suites.listed("task", "./*.yaml") == ["./a,b.yaml", "./c.yaml"]
    with pytest.raises(UnknownName):
        suites.listed("task", "./none-*.yaml")


def test_a_suite_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "birds.yaml").write_bytes(catalog.names("task")["gqa"].read_bytes())
    mine = tmp_path / "own" / "mine.yaml"
    mine.write_text(
        "name: mine\ntitle: Mine\ntasks: [./birds.yaml, {task: okvqa, shots: [4], protocol: emu2}]\n"
    )
    birds, okvqa = wanted(["own/mine.yaml"], RunOptions())
    assert birds.task == "own/birds.yaml"
    assert (okvqa.options.shots, okvqa.options.protocol) == ((4,), "emu2")
    mine.write_text("name: mine\ntitle: Mine\ntasks: [{task: okvqa, shot: [4]}]\n")
    with pytest.raises(UnknownName, match=r"unknown key 'shot'.*'shots'"):
        wanted(["own/mine.yaml"], RunOptions())


@pytest.mark.parametrize("text", ["0", "-1", "1.0", "2.5", "all", "nan", "-0.1"])
def test_a_limit_that_says_nothing(text: str) -> None:
    with pytest.raises(ConfigError, match=f"cannot be {text}"):
        parsed_limit(text)


@pytest.mark.parametrize(
    ("part", "queries", "count"),
    [(0.1, 10, 1), (0.1, 11, 2), (0.3, 10, 3), (0.7, 10, 7), (0.001, 50, 1), (0.999, 10, 10)],
)
def test_a_part_is_rounded_up(part: float, queries: int, count: int) -> None:
    assert RunOptions.of(limit=part).extent(queries).limit == count


def test_names_of_other_harnesses() -> None:
    for task, split in NAMES.values():
        assert split is None or split in load_task(task).spec.data.splits
    with pytest.raises(UnknownName) as said:
        wanted(["vqav2_val"], RunOptions())[0]
        load_task("vqav2_val")
    assert said.value.hint == "for vqav2_val, use --task vqav2 --split val"
    with pytest.raises(UnknownName) as said:
        load_task("MMBench_DEV_EN")
    assert said.value.hint is not None and said.value.hint.endswith("--task mmbench --split dev")
    with pytest.raises(UnknownName) as said:
        load_task("MME")
    assert said.value.hint is not None and "not in emu2eval" in said.value.hint
