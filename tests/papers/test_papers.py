"""Published tables: every number, what their columns stand for, and what keeps measured numbers apart."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from msgspec.structs import replace

from emu2eval.engine.tasks import opened
from emu2eval.errors import ConfigError, UnknownName
from emu2eval.papers.published import PaperTable, load_paper
from emu2eval.papers.rebuild import MeasuredRun, PaperCell, Rebuilt, rebuild
from emu2eval.report.paper import Number, numbers, render
from emu2eval.spec import catalog
from emu2eval.spec.changes import Changes
from emu2eval.spec.task import load_task
from emu2eval.types import Row, Shots

FACTS = Path(__file__).parent / "published"
PAPERS = sorted(path.stem for path in FACTS.glob("*.txt"))
TASKS_TO_COME = {"visdial", "textcaps"}

ROW = Row(
    run="okvqa_4-shot_emu2", task="okvqa", model="emu2", shots=Shots(4), protocol="emu2", split="val",
    metric="vqa_accuracy", variant="okvqa_porter", value=53.3, stderr=0.5, low=52.3, high=54.3, n=5046,
    unscored=0, covered=5046, queries=5046,
)  # fmt: skip


def facts(paper: str) -> list[tuple[str, str, str, list[float | None]]]:
    """(table, model, shots, numbers) of every printed row; shots is "." where the table has none."""
    found = []
    for line in (FACTS / f"{paper}.txt").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            table, model, shots, values = (part.strip() for part in line.split("|"))
            found.append(
                (table, model, shots, [None if v == "-" else float(v) for v in values.split()])
            )
    return found


def rebuilt(paper: str, table: str, *runs: MeasuredRun, against: str | None = None) -> Rebuilt:
    source = load_paper(paper)
    return rebuild(source, source.table(table), runs, against)


def table1(*rows: Row, changes: tuple[str, ...] = (), against: str | None = None) -> list[Number]:
    """The measured numbers of Emu2's table 1, those that are there."""
    runs = [MeasuredRun(row.run, (row,), changes) for row in rows]
    made = numbers(rebuilt("emu2", "1", *runs, against=against))
    return [n for n in made if n.source == "measured" and n.value is not None]


@pytest.mark.parametrize("paper", PAPERS)
def test_every_cell_is_as_printed(paper: str) -> None:
    """Through JSON, CSV and the cells of Markdown and LaTeX; no row more and none less."""
    printed = facts(paper)
    for table in dict.fromkeys(row[0] for row in printed):
        rows = [row for row in printed if row[0] == table]
        made = rebuilt(paper, table)
        digits, width = made.table.digits, len(made.table.columns)
        listed = json.loads(render([made], "json"))["tables"][0]["numbers"]
        lines = [listed[i : i + width] for i in range(0, len(listed), width)]
        assert [[n["value"] for n in line] for line in lines] == [row[3] for row in rows]
        assert [line[0]["model"] for line in lines] == [row[1] for row in rows]
        for line, row in zip(lines, rows, strict=True):
            assert row[2] in (".", line[0]["shots"])
        flat = list(csv.DictReader(io.StringIO(render([made], "csv"))))
        assert [float(n["value"]) if n["value"] else None for n in flat] == [
            value for row in rows for value in row[3]
        ]
        texts = [["–" if v is None else f"{v:.{digits}f}" for v in row[3]] for row in rows]
        cells = [line.strip("| ").split(" | ") for line in render([made], "markdown").splitlines()
                 if line.startswith("| ")][2:]  # fmt: skip
        assert [[re.sub("[ᵃ-ᶻⁱⁿ]", "", c) for c in line[-width:]] for line in cells] == texts
        said = re.sub(r"\\textsuperscript{.}", "", render([made], "latex"))
        said = re.sub(r"\\textbf{([\d.]+)}", r"\1", said)
        for line, row in zip(made.lines, texts, strict=True):
            numbers = [text.replace("–", "--") for text in row if text != "–"]
            assert all(f" & {number} " in said for number in numbers), line.model


@pytest.mark.parametrize("paper", catalog.names("paper"))
def test_columns_name_what_measures_them(paper: str) -> None:
    """Split, stand-in and protocol exist, and the protocol's scorer gives the column's metric."""
    for table in load_paper(paper).spec.tables:
        for column in table.columns:
            if column.task not in catalog.names("task"):
                assert column.task in TASKS_TO_COME, column.task
                continue
            for split in filter(None, (column.split, column.stand_in)):
                task = load_task(column.task, protocol=column.protocol, split=split)
            if column.protocol is not None:
                changes = Changes.of(list(column.set)).task
                task = load_task(column.task, protocol=column.protocol, overrides=changes)
                names = [(s.metric, s.variant) for s in opened(task).scorer.summaries()]
                if column.judge is None:
                    assert (column.metric, column.variant) in names, names
                else:
                    assert column.metric in {metric for metric, _ in names}, names


def test_a_number_beside_its_published_one() -> None:
    (found,) = table1(ROW)
    assert (found.published, found.verdict, found.comparable) == (53.2, "reproduced", True)
    assert found.difference == pytest.approx(0.1)
    markdown = render([rebuilt("emu2", "1", MeasuredRun("a", (ROW,)))], "markdown")
    lines = markdown.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("| Emu2 (37B) | 4 "))
    assert lines[at + 1] == "| emu2, measured | 4 |  | 53.3 [52.3, 54.3] +0.1 |  |  |  |"


def test_what_a_column_did_otherwise_is_no_setting_by_hand() -> None:
    row = replace(
        ROW, task="vqav2", model="OpenFlamingo-9B", protocol="openflamingo", split="test-dev",
        variant="always", value=55.0,
    )  # fmt: skip
    rices = "task.demonstrations.chooser=rices"
    for table, changes, apart in (
        ("11", (), ()),
        ("11", (rices,), (f"changed settings: {rices}",)),
        ("12", (), (f"VQAv2: the paper used {rices}",)),
        ("12", (rices,), ()),
    ):
        made = numbers(rebuilt("openflamingo", table, MeasuredRun("a", (row,), changes)))
        (found,) = (n for n in made if n.source == "measured" and n.value is not None)
        assert (found.why, found.published) == (apart, {"11": 54.8, "12": 55.1}[table])


def test_the_interval_decides_and_rounding_is_allowed_for() -> None:
    for low, high, verdict in (
        (53.24, 54.0, "reproduced"),
        (53.26, 54.0, "not reproduced"),
        (52.0, 53.16, "reproduced"),
        (52.0, 53.14, "not reproduced"),
        (None, None, "no interval"),
    ):
        (found,) = table1(replace(ROW, low=low, high=high))
        assert found.verdict == verdict, (low, high)
    assert PaperCell().verdict(1) == "not measured"
    assert PaperCell(1.0).verdict(1) == "nothing published"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"split": "train"}, "OK-VQA: split train; the paper uses val"),
        ({"protocol": "plain"}, "OK-VQA: protocol plain; the paper's is emu2"),
        (
            {"variant": "always"},
            "OK-VQA: vqa_accuracy/always; the paper's is vqa_accuracy/okvqa_porter",
        ),
        (
            {"covered": 400},
            "OK-VQA: a subset, 400 of 5,046 queries",
        ),
        ({"shortened": 3}, "OK-VQA: 3 prompts shortened to fit"),
        ({"imported": "lm-eval"}, "OK-VQA: protocol imported-lm-eval; the paper's is emu2"),
        ({"unscored": 2}, "OK-VQA: 2 queries unscored"),
    ],
)
def test_what_keeps_a_number_apart(change: dict[str, Any], why: str) -> None:
    (found,) = table1(replace(ROW, **change))
    assert found.why == (why,)
    assert (found.comparable, found.verdict) == (False, "not comparable")
    made = rebuilt("emu2", "1", MeasuredRun("a", (replace(ROW, **change),)))
    assert f"ᶜ {why}\n" in render([made], "markdown")


def test_what_was_set_by_hand_is_told() -> None:
    (found,) = table1(ROW, changes=("task.demonstrations.chooser=random",))
    assert found.why == ("changed settings: task.demonstrations.chooser=random",)


def test_numbers_of_another_encoder_stand_in_their_own_columns() -> None:
    tiny = {"clip_t": 0.2, "dino": 0.4, "clip_i": 0.3}
    rows = tuple(
        replace(
            ROW,
            task="dreambench",
            split="all",
            shots=Shots(0),
            metric=metric,
            variant="tiny",
            value=value,
        )
        for metric, value in tiny.items()
    )
    found = [
        n for n in numbers(rebuilt("emu2", "5", MeasuredRun("a", rows))) if n.source == "measured"
    ]
    assert [(n.column, n.value) for n in found] == [("dino", 0.4), ("clip_i", 0.3), ("clip_t", 0.2)]
    assert found[0].why == ("DINO: dino/tiny; the paper's is dino/dino-vits16",)


def test_a_stand_in_is_marked() -> None:
    row = replace(ROW, task="vqav2", variant="official", value=67.0, low=66, high=68)
    (found,) = table1(row)
    assert found.why == ("VQAv2: split val; the paper uses test-dev",)
    assert (found.published, found.verdict) == (67.0, "not comparable")


def test_a_judge_of_other_words_is_marked() -> None:
    row = replace(
        ROW, task="mm_vet", model="emu2-chat", shots=Shots(0), protocol="emu2-chat", split="test",
        metric="mm_vet", variant="own", judge="gpt-4o", value=48.0, low=40.0, high=56.0,
    )  # fmt: skip
    made = numbers(rebuilt("emu2", "2", MeasuredRun("a", (row,))))
    (found,) = (n for n in made if n.source == "measured" and n.value is not None)
    assert found.published == 48.5
    assert len(found.why) == 1 and found.why[0].startswith(
        "MM-Vet: judged as mm_vet/own by gpt-4o; the paper"
    )


def test_training_data_and_text_only_zero_are_marked_in_both_kinds_of_lines() -> None:
    row = replace(
        ROW, model="emu2-chat", shots=Shots(0), protocol="emu2-chat", value=64.8, low=64, high=66
    )
    made = numbers(rebuilt("emu2", "2", MeasuredRun("a", (row,))))
    trained = "trained on this benchmark's training data"
    (found,) = (n for n in made if n.source == "measured" and n.value is not None)
    # Both of them saw that data: the one repeats the other, and neither compares with the column.
    assert (found.why, found.comparable, found.verdict) == ((trained,), False, "reproduced")
    published = [n for n in made if n.model == "Emu2-Chat"]
    marked = {n.column for n in published if trained in n.why}
    assert marked == {"vqav2", "okvqa", "gqa", "textvqa"}
    zeros = [n for n in numbers(rebuilt("emu2", "1")) if n.shots == "0*" and n.value is not None]
    assert len(zeros) == 5 * 3 + 3 and all("0* uses two" in n.why[0] for n in zeros)
    (starred,) = table1(replace(ROW, model="other", shots=Shots(2, text_only=True)))
    assert "0* uses two" in starred.why[0]


def test_marks_of_a_paper() -> None:
    fourth = numbers(rebuilt("emu2", "4"))
    assert [n.model for n in fourth if n.why] == ["DALL-E 2", "DALL-E 3"]
    assert {n.why for n in fourth if n.why} == {("CLIP-T on 4,096 samples",)}
    fifth = numbers(rebuilt("emu2", "5"))
    assert all(n.comparable for n in fifth if n.notes == ("zero-shot method",))
    card = [n for n in numbers(rebuilt("emu2", "1")) if n.notes]
    assert [(n.model, n.shots, n.value) for n in card] == [("IDEFICS (80B)", "16", 57.8)]


def test_of_several_runs_the_most_comparable_is_shown() -> None:
    part = replace(ROW, covered=9, n=9, run="part")
    plain = replace(ROW, protocol="plain", run="plain")
    made = rebuilt("emu2", "1", *(MeasuredRun(r.run, (r,)) for r in (part, plain, ROW)))
    (found,) = (n for n in numbers(made) if n.run is not None)
    assert found.run == ROW.run
    assert set(made.passed_over) == {"part", "plain"}
    assert "not shown, because they are less comparable" in render([made], "markdown")


def test_splits_metrics_subscores_and_ablations_find_their_place() -> None:
    row = replace(
        ROW, task="refcoco", model="emu2-chat", shots=Shots(0), protocol="emu2-chat", split="testA",
        metric="grounding_accuracy@0.5", variant="tokens-edge", value=93.9, low=93.0, high=94.8,
    )  # fmt: skip
    made = numbers(rebuilt("emu2", "3", MeasuredRun("a", (row,))))
    assert [n.column for n in made if n.run] == ["refcoco_testA"]
    other = replace(ROW, metric="second", variant=None, value=1.0)
    (found,) = (
        n
        for n in numbers(rebuilt("emu2", "1", MeasuredRun("a", (other, ROW))))
        if n.run is not None
    )
    assert found.value == ROW.value
    assert table1(replace(ROW, group="question_type: one")) == []
    assert table1(replace(ROW, ablation="labels")) == []


def test_against_another_model() -> None:
    mine = replace(ROW, model="mine")
    assert table1(mine)[0].published is None
    assert table1(mine, against="emu2")[0].published == 53.2
    assert table1(mine, against="Flamingo (80B)")[0].published == 57.4
    with pytest.raises(UnknownName, match="table 1 of emu2 has no model 'emu3'"):
        table1(mine, against="emu3")


def test_names_cannot_break_a_table() -> None:
    nasty = replace(ROW, model="a|b_50%&\\x{}")
    made = [rebuilt("emu2", "1", MeasuredRun("a", (nasty,)))]
    assert r"a\|b_50%" in render(made, "markdown")
    assert r"a\textbar{}b\_50\%\&\textbackslash{}x\{\}" in render(made, "latex")
    with pytest.raises(UnknownName, match="did you mean 'latex'"):
        render(made, "latx")


def write(folder: Path, **changes: object) -> str:
    table: dict[str, object] = {
        "id": "1",
        "caption": "c",
        "scale": "percent",
        "columns": [{"id": "a", "title": "A", "task": "okvqa", "metric": "accuracy"}],
        "rows": [{"model": "m", "values": [1.5]}],
        **changes,
    }
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({"title": "t", "source": "s", "year": 2026, "tables": [table]}))
    return str(path)


def test_another_paper_is_one_file(tmp_path: Path) -> None:
    paper = load_paper(write(tmp_path))
    assert (paper.name, paper.table("1").rows[0].values) == ("mine", (1.5,))
    with pytest.raises(UnknownName, match="available: 1"):
        paper.table("2")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"rows": [{"model": "m", "values": [1, 2]}]},
            "m has 2 values, but the table has 1 columns",
        ),
        ({"rows": [{"model": "m", "values": [1], "mark": "*"}]}, "unknown mark"),
        ({"rows": [{"model": "m", "values": [1], "trained_on": ["b"]}]}, "unknown column 'b'"),
        (
            {"rows": [{"model": "m", "values": [1], "note": "n", "marks": "x"}]},
            "unknown key 'marks'; did you mean",
        ),
        ({"columns": [{"id": "a", "title": "A", "task": "t", "metric": "m"}] * 2}, "the same id"),
    ],
)
def test_a_wrong_file_is_told_with_its_line(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        load_paper(write(tmp_path, **changes))
    assert re.search(r"mine\.yaml:\d+$", caught.value.where or "")


def test_shots_of_a_row_may_be_the_table_s() -> None:
    table = load_paper("openflamingo").table("readme")
    assert isinstance(table, PaperTable)
    assert {table.shots_of(row) for row in table.rows} == {"4"}
