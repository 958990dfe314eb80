"""The files for evaluation servers: complete, filled as the server wants, checked against its list."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from emu2eval import evaluate
from emu2eval.errors import ConfigError, StoreError
from emu2eval.exports.server_formats import GQA, MMMU, VIZWIZ, VQA, Format, write
from emu2eval.exports.submit import submit
from emu2eval.trust import trusting
from emu2eval.types import Sample

from ..conftest import Program, write_jsonl


def hidden_task(folder: Path, form: str, ids: list[str], **submission: Any) -> Path:
    """A task whose split test is hidden, and its split dev a part of it."""
    (folder / "images").mkdir(parents=True)
    for n, name in enumerate(ids):
        Image.new("RGB", (8, 8), (n, 0, 0)).save(folder / "images" / f"{name}.png")
    rows = [{"id": name, "image": f"{name}.png", "question": f"what is {name}?"} for name in ids]
    write_jsonl(folder / "test.jsonl", rows)
    write_jsonl(folder / "dev.jsonl", rows[:2])
    spec = {
        "name": "hidden",
        "title": "Hidden answers",
        "data": {
            "reader": "table",
            "root": ".",
            "options": {"folder": "images", "answer": False},
            "splits": {"test": {"files": "test.jsonl"}, "dev": {"files": "dev.jsonl"}},
        },
        "split": "test",
        "score": {"scorer": "exact_match", "clean": ["first_line", "strip", "lower"]},
        "protocol": "plain",
        "protocols": {"plain": {"ask": "{image}{question}"}},
        "submission": {
            "format": form,
            "questions": "test",
            "splits": ["dev", "test"],
            **submission,
        },
    }
    path = folder / "hidden.yaml"
    path.write_text(yaml.safe_dump(spec))
    return path


def handed_in(task: Path, model: Path, split: str = "test", **settings: Any) -> Any:
    (result,) = evaluate(str(task), str(model), split=split, **settings)
    written = submit(result.folder)
    return written, json.loads(written.file.read_text())


def test_vqav2_from_the_command_line(vqav2: Path, program: Program) -> None:
    """Only test-dev was answered, and still every question of test stands in the file."""
    assert (
        program(
            "run", "--model", "emu2-nano", "--task", "vqav2", "--shots", "4", "--split", "test-dev"
        )[0]
        == 0
    )
    code, _, said = program("submit", "vqav2_4-shot", "--file", "answers.json")
    assert code == 0
    assert "wrote answers.json: 5 entries, 2 with an answer" in said
    assert "3 other questions in test have an empty answer" in said
    assert "https://eval.ai/web/challenges/challenge-page/830" in said
    entries = json.loads(Path("answers.json").read_text())
    questions = vqav2 / "vqav2/v2_OpenEnded_mscoco_test2015_questions.json"
    listed = [q["question_id"] for q in json.loads(questions.read_text())["questions"]]
    assert sorted(e["question_id"] for e in entries) == sorted(listed)
    answered = {e["question_id"] for e in entries if e["answer"]}
    assert answered == set(listed[:2])
    assert all(e.keys() == {"question_id", "answer"} for e in entries)


def test_answers_that_are_missing_are_counted(vqav2: Path, program: Program) -> None:
    program(
        "run",
        "--model",
        "emu2-nano",
        "--task",
        "vqav2",
        "--shots",
        "4",
        "--split",
        "test-dev",
        "--limit",
        "1",
    )
    code, _, said = program("submit", "vqav2_4-shot")
    assert code == 3
    assert "1 questions in the run's split have no answer" in said
    (folder,) = Path("results/runs").iterdir()
    assert len(json.loads((folder / "submission.json").read_text())) == 5


def test_a_split_whose_answers_are_known_has_no_server(vqav2: Path, program: Program) -> None:
    program("run", "--model", "emu2-nano", "--task", "vqav2", "--shots", "0")
    code, _, said = program("submit", "vqav2_0-shot")
    assert code == 2
    assert "is on vqav2's split val, but the server accepts test-dev or test" in said
    program("run", "--task", "easy-vqa", "--limit", "3")
    code, _, said = program("submit", "easy-vqa")
    assert code == 2
    assert "easy-vqa has no test server" in said
    assert "unknown run" in program("submit", "nothing")[2]


def test_the_official_list_must_be_there_and_hold_what_was_asked(
    vqav2: Path, program: Program
) -> None:
    program("run", "--model", "emu2-nano", "--task", "vqav2", "--split", "test-dev", "--shots", "4")
    path = vqav2 / "vqav2/v2_OpenEnded_mscoco_test2015_questions.json"
    content = json.loads(path.read_text())
    del content["questions"][0]
    path.write_text(json.dumps(content))
    code, _, said = program("submit", "vqav2")
    assert code == 2
    assert "1 answered questions are not in the official list (split test)" in said
    path.unlink()
    code, _, said = program("submit", "vqav2")
    assert code == 2
    assert "v2_Questions_Test_mscoco.zip" in said
    assert not list(Path("results/runs").glob("*/submission.json"))


def test_vizwiz_wants_normalised_answers_by_image(tmp_path: Path, make_model: Any) -> None:
    task = hidden_task(tmp_path / "t", "vizwiz", ["VizWiz_test_0.jpg", "VizWiz_test_1.jpg"])
    written, entries = handed_in(task, make_model(default="The RED can, twenty.\nmore"))
    assert entries == [
        {"image": "VizWiz_test_0.jpg", "answer": "red can twenty"},
        {"image": "VizWiz_test_1.jpg", "answer": "red can twenty"},
    ]
    assert (written.entries, written.unanswered, written.filled) == (2, 0, 0)


def test_gqa_wants_predictions_as_they_are_compared(tmp_path: Path, make_model: Any) -> None:
    task = hidden_task(tmp_path / "t", "gqa", ["201307", "01307", "7"])
    written, entries = handed_in(task, make_model(default="On the left"), "dev")
    assert entries == [
        {"questionId": "01307", "prediction": "on the left"},
        {"questionId": "201307", "prediction": "on the left"},
        {"questionId": "7", "prediction": ""},
    ]
    assert (written.unanswered, written.filled) == (0, 1)


def test_mmmu_wants_one_object(tmp_path: Path, make_model: Any) -> None:
    task = hidden_task(tmp_path / "t", "mmmu", ["test_Art_1", "test_Art_2"])
    _, content = handed_in(task, make_model(default="B"))
    assert content == {"test_Art_1": "b", "test_Art_2": "b"}


def test_what_the_scorer_read_can_be_what_is_handed_in(tmp_path: Path, make_model: Any) -> None:
    (tmp_path / "letters.py").write_text(
        "from emu2eval.scorers.base import Scorer\n"
        "from emu2eval.types import Score\n"
        "class Letter(Scorer):\n"
        "    metric = 'letter'\n"
        "    def score(self, sample, response):\n"
        "        found = [c for c in response.text if c in 'ABCD']\n"
        "        return Score(None, found[-1] if found else None)\n"
    )
    task = hidden_task(tmp_path / "t", "mmmu", ["a", "b"], answer="prediction")
    spec = yaml.safe_load(task.read_text())
    spec["score"] = {"scorer": "letters:Letter"}
    task.write_text(yaml.safe_dump(spec))
    model = make_model(replies={"what is a": "it is (C)"}, default="no idea")
    written, content = handed_in(task, model)
    assert content == {"a": "C", "b": ""}
    assert written.unanswered == 1


def test_a_failed_answer_is_left_empty(tmp_path: Path, make_model: Any) -> None:
    task = hidden_task(tmp_path / "t", "gqa", ["1", "2", "3"])
    written, entries = handed_in(task, make_model(fail=["what is 2"], default="yes"))
    assert [e["prediction"] for e in entries] == ["yes", "", "yes"]
    assert written.unanswered == 1


QUESTIONS = [Sample("1"), Sample("2")]


@pytest.mark.parametrize(
    ("form", "content", "says"),
    [
        (VQA, [{"question_id": 1, "answer": "a"}], "1 questions are missing (the first is 2)"),
        (VQA, [{"question_id": n, "answer": "a"} for n in (1, 2, 3)], "not in the official list"),
        (VQA, [{"question_id": n, "answer": "a"} for n in (1, 2, 2)], "1 ids appear twice"),
        (
            VQA,
            [{"question_id": str(n), "answer": "a"} for n in (1, 2)],
            "are missing (the first is 1)",
        ),
        (VQA, [{"question_id": n, "answer": n} for n in (1, 2)], "2 answers are not strings"),
        (VQA, [{"question_id": 1}], "entry 0 is not"),
        (VQA, {"1": "a"}, "not a JSON list"),
        (VIZWIZ, [{"image": "1", "answer": "a"}], "the first is '2'"),
        (GQA, [{"questionId": "1", "answer": "a"}], "entry 0 is not"),
        (MMMU, {"1": "A", "2": "B", "3": "C"}, "not in the official list (the first is '3')"),
        (MMMU, [], "not a JSON object"),
    ],
)
def test_what_a_server_would_refuse(form: Format, content: Any, says: str) -> None:
    assert says in "; ".join(form.problems(content, QUESTIONS))
    answers = {"1": "a", "2": "b"}
    assert form.problems(form.build(QUESTIONS, answers), QUESTIONS) == []


def test_a_file_that_would_be_refused_is_not_written(tmp_path: Path) -> None:
    twice = [*QUESTIONS, QUESTIONS[0]]
    with pytest.raises(StoreError, match="share an id"):
        write(tmp_path / "a.json", VQA.build(twice, {}), VQA, twice)
    with pytest.raises(StoreError, match="cannot write the file"):
        write(tmp_path / "no" / "a.json", VQA.build(QUESTIONS, {}), VQA, QUESTIONS)
    assert list(tmp_path.iterdir()) == []


def test_a_format_of_ones_own(tmp_path: Path, make_model: Any) -> None:
    (tmp_path / "formats_of_my_own.py").write_text(
        "from emu2eval.exports.server_formats import Format\nPAIRS = Format('key', 'said')\n"
    )
    task = hidden_task(tmp_path / "t", "formats_of_my_own:PAIRS", ["1"])
    with trusting():  # a stored run names no code by itself
        assert handed_in(task, make_model(default="yes"))[1] == [{"key": "1", "said": "yes"}]
    task = hidden_task(tmp_path / "u", "vqqa", ["1"])
    with pytest.raises(ConfigError, match="did you mean 'vqa'"):
        handed_in(task, make_model(default="yes"))
