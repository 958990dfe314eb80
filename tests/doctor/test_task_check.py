"""`check --task` says what a run would say, short of the model; `check --model` all faults of a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from emu2eval import Several, evaluate
from emu2eval.adapters.conformance import Finding
from emu2eval.doctor.file_check import model_faults, task_faults
from emu2eval.doctor.task_check import check_task

from ..conftest import MakeTask, Program

WRONG = """\
name: wrong
titel: One letter off
data:
  reader: table
  root: .
  options: {folder: images, fiels: [a]}
  splits: {test: {files: test.jsonl}}
split: test
demonstrations: {chooser: rices, options: {encoderr: thumbnail}}
score: {scorer: exact_match, options: {normalize: true}, clean: [strip, lowercase]}
protocol: plain
protocols:
  plain: {ask: "{image}{question} Answer:"}
  other: {ask: "{question}", score: {scorer: letter, options: {rule: guess}}}
"""


def told(findings: Any, *, good: bool) -> list[Finding]:
    return [each for each in findings if each.holds == good]


def test_all_faults_of_a_file_are_told_with_line_and_key(tmp_path: Path) -> None:
    """Of the file, and of the parts that it and its protocols name; an unknown key before a missing one."""
    file = tmp_path / "wrong.yaml"
    file.write_text(WRONG)
    faults = task_faults(str(file))
    places = [
        (fault.what.partition(";")[0], str(fault.where).rpartition(":")[2]) for fault in faults
    ]
    assert places[:-1] == [
        ("unknown key 'titel'", "2"),
        ("the file needs the key 'title'", "1"),
        ("scorer exact_match has no option 'normalize'", "10"),
        ("unknown cleaner 'lowercase'", "10"),
        ("chooser rices has no option 'encoderr'", "9"),
    ]
    assert places[-1][1] == "14"
    assert "option 'rule' of scorer letter" in places[-1][0]


def test_the_options_of_readers_are_part_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    sound = (
        WRONG.replace("titel", "title")
        .replace("encoderr", "encoder")
        .replace("normalize", "normalise")
    )
    file.write_text(sound.replace("lowercase", "lower").replace("rule: guess", "circular: false"))
    (fault,) = task_faults(str(file))
    assert "'fiels'" in fault.what
    assert str(fault.where).endswith("wrong.yaml:6")


def test_a_run_tells_the_faults_of_all_parts_at_once(make_task: MakeTask) -> None:
    task = make_task(
        score={"scorer": "exact_match", "options": {"normalize": True}, "clean": ["lowercase"]},
        demonstrations={"chooser": "randon"},
    )
    with pytest.raises(Several) as caught:
        evaluate(str(task), "most-common")
    assert len(caught.value.parts) == 3


def test_many_drawings_of_the_same_words_are_no_duplicates(make_task: MakeTask) -> None:
    for kind, warned in (("text", True), ("image", False)):
        task = make_task(output={"kind": kind}, score={"scorer": "mine.py:any"})
        (task.parent / "mine.py").write_text("def any(prediction, references):\n    return 1\n")
        table = task.parent / "test.jsonl"
        first = json.loads(table.read_text().splitlines()[0])
        table.write_text(table.read_text() + json.dumps({**first, "id": "again"}) + "\n")
        found = [each.seen for each in check_task(str(task), shots=["0"]) if each.warns]
        assert bool(found) == warned


def test_a_models_file_too(tmp_path: Path, program: Program) -> None:
    file = tmp_path / "model.yaml"
    file.write_text(
        "adapter: openai\nabout: 3\nsettings:\n  model: m\n  concurency: 3\n  timeout: -1\n"
    )
    lines = [str(fault.where).rpartition(":")[2] for fault in model_faults(str(file))]
    assert lines == ["1", "2", "5", "6"]
    code, out, _ = program("check", "--model", str(file))
    assert code == 2
    assert "did you mean 'concurrency'" in " ".join(out.split())


def test_a_sound_task_shows_prompts_with_demonstrations(
    make_task: MakeTask, program: Program
) -> None:
    code, out, _ = program("check", "--task", str(make_task()), "--shots", "0", "--shots", "3")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert code == 0
    assert any(line.startswith("ok 3 shots 12 prompts built; 4 images each") for line in lines)
    assert "ok scorer exact_match reads the references of 12 queries" in lines
    assert not [line for line in lines if line.startswith("!")]


def test_what_a_run_would_refuse_or_note(make_task: MakeTask) -> None:
    task = make_task()
    images = task.parent / "images"
    lines = [json.loads(line) for line in (task.parent / "test.jsonl").read_text().splitlines()]
    lines[1]["answer"] = None  # has no reference
    lines.append({**lines[0], "id": "again"})
    (task.parent / "test.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    shared = json.loads((task.parent / "train.jsonl").read_text().splitlines()[0])
    (images / lines[2]["image"]).write_bytes((images / shared["image"]).read_bytes())
    (images / lines[3]["image"]).unlink()
    found = list(check_task(str(task)))
    (gone,) = told(found, good=False)
    assert "1 of 12 images are missing" in gone.seen
    assert lines[3]["image"] in gone.seen
    notes = " | ".join(each.seen for each in found if each.warns)
    assert "1 repeat another one's question and images: q0000 repeats again" in notes
    assert "1 queries share an image with the demonstration pool; the first is q0002" in notes


def test_demonstrations_that_cannot_be_shown_are_told_before_a_run(make_task: MakeTask) -> None:
    task = make_task()
    pool = task.parent / "train.jsonl"
    pool.write_text(pool.read_text().replace('"question": "what colour', '"quest": "what colour'))
    told_of = told(check_task(str(task)), good=False)
    assert any(each.rule == "demonstrations" and "question" in each.seen for each in told_of)


def test_more_demonstrations_than_there_are(make_task: MakeTask) -> None:
    (finding,) = told(check_task(str(make_task(pool=3)), shots=["0", "8"]), good=False)
    assert finding.rule == "8 shots"
    assert "the pool has only 3" in finding.seen


@pytest.mark.parametrize(
    ("score", "holds", "says"),
    [
        ({"scorer": "letter"}, False, "sample"),
        ({"scorer": "exact_match", "clean": ["first_number"]}, True, "12 of 12 queries score 0"),
    ],
)
def test_references_that_the_scorer_cannot_read(
    make_task: MakeTask, score: dict[str, Any], holds: bool, says: str
) -> None:
    found = [
        each for each in check_task(str(make_task(score=score))) if each.rule.startswith("scorer")
    ]
    (finding,) = found
    assert finding.holds == holds
    assert says in finding.seen


def test_a_metric_that_fails_on_a_reference(make_task: MakeTask, tmp_path: Path) -> None:
    task = make_task(score={"scorer": "mine.py:number"})
    (task.parent / "mine.py").write_text(
        "def number(prediction, references):\n    return int(prediction)\n"
    )
    (finding,) = told(check_task(str(task)), good=False)
    assert "ValueError" in finding.seen
    assert "(12 such samples)" in finding.seen


def test_where_every_prompt_has_a_damaged_image_it_is_named(make_task: MakeTask) -> None:
    task = make_task(pool=3)
    shared = json.loads((task.parent / "train.jsonl").read_text().splitlines()[0])["image"]
    (task.parent / "images" / shared).write_bytes(b"\x89PNG\r\n\x1a\n")
    wrong = told(check_task(str(task), shots=["3"]), good=False)
    (finding,) = [each for each in wrong if each.rule == "3 shots"]
    assert "no prompt can be built" in finding.seen
    assert shared in finding.seen
