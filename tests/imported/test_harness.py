"""Sample logs in the shapes that other harnesses write, as runs, through the command line.

Shapes: lm-evaluation-harness 0.4.8 (loggers/evaluation_tracker.py at 034ab03) and 0.4.2, one list; lmms-eval
0.3 (loggers/evaluation_tracker.py at 0716c69) and 0.1, one file with `logs`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Make = Callable[..., Path]
Call = Callable[..., Any]
RIGHT = ("red", "green", "blue", "yellow", "black")
DATE = "2025-01-31T10-00-00.123456"
RESULTS = {
    # Written by Python, whose JSON has NaN.
    "results": {"squares": {"exact_match,none": 0.75, "exact_match_stderr,none": float("nan")}},
    "configs": {"squares": {"task": "squares"}},
    "n-shot": {"squares": 4, "other": 0},
    "config": {"model": "hf", "model_args": "pretrained=org/model-7b,api_key=SECRET", "limit": 4.0},
    "lm_eval_version": "0.4.8",
    "model_source": "hf",
    "model_name": "org/model-7b",
}


def doc(number: int) -> dict[str, Any]:
    return {"id": f"q{number:04d}", "question": f"what colour is square {number}?"}


def generated(number: int, said: str, score: float, **changes: Any) -> dict[str, Any]:
    """A row of `samples_TASK_DATE.jsonl` of a task that generates, as 0.4.8 writes it."""
    prompt = f"<image>{doc(number)['question']} Answer:"
    row = {
        "doc_id": number,
        "doc": doc(number),
        "target": RIGHT[number % 5],
        "arguments": {"gen_args_0": {"arg_0": prompt, "arg_1": {"until": ["\n"]}}},
        "resps": [[said]],
        "filtered_resps": [said],
        "filter": "none",
        "metrics": ["exact_match"],
        "doc_hash": "0" * 64,
        "prompt_hash": "1" * 64,
        "target_hash": "2" * 64,
        "exact_match": score,
    }
    return {**row, **changes}


@pytest.fixture
def log(write: Call) -> Path:
    """A log of four of the squares: two right by both, one by theirs alone, one by none."""
    write(f"results_{DATE}.json", RESULTS)
    rows = [
        generated(0, " red ", 1.0),
        generated(1, "green", 1.0),
        generated(2, "a blue one", 1.0),
        generated(3, "purple", 0.0),
    ]
    return write(f"samples_squares_{DATE}.jsonl", rows)


def record(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return found


def test_generated_answers_of_lm_eval(
    log: Path, make_task: Make, imported: Call, row_of: Call
) -> None:
    folder, said = imported(log, "--task", make_task())
    row = row_of(folder)
    assert (row["value"], row["n"], row["model"], row["shots"]) == (50.0, 4, "model-7b", "4")
    assert row["protocol"] == "imported-lm-eval"
    assert row["notes"] == [
        "imported from lm-evaluation-harness 0.4.8, shots from its log",
        "scored as plain",
        "4 of 12 queries",
    ]
    assert (
        "their exact_match 75.00, our exact_match 50.00 on 4 samples: equal on 3, different on 1: "
        "q0002 (1, ours 0)"
    ) in said
    assert "the model is named model-7b, from its log" in said
    assert set(record(folder)["imported"]["files"]) == {
        f"results_{DATE}.json",
        f"samples_squares_{DATE}.jsonl",
    }
    kept = "".join(path.read_text() for path in folder.glob("*.json*"))
    assert "SECRET" not in kept
    stored = [json.loads(line) for line in (folder / "responses.jsonl").read_text().splitlines()]
    assert [row["theirs"] for row in stored][2:] == [{"exact_match": 1.0}, {"exact_match": 0.0}]
    assert stored[0]["text"] == " red "
    # The agreement is of the stored answers: it is said again.
    assert "equal on 3, different on 1" in imported(log, "--task", "squares/squares.yaml")[1]


def test_what_the_user_says_of_model_and_shots_is_marked(
    log: Path, make_task: Make, imported: Call, row_of: Call
) -> None:
    folder, _ = imported(log, "--task", make_task(), "--shots", "0*", "--model", "mine")
    row = row_of(folder)
    assert (row["shots"], row["model"]) == ("0*", "mine")
    assert row["notes"][0].endswith("shots as given (the log says 4)")


def test_a_log_without_its_results(
    log: Path, make_task: Make, imported: Call, refused: Call, write: Call
) -> None:
    (log.parent / f"results_{DATE}.json").unlink()
    assert "give it, for example: --shots 0" in refused(log, "--task", make_task())
    folder, said = imported(log, "--task", make_task(), "--shots", "2")
    assert "no results file next to the log" in said
    assert record(folder)["imported"]["origin"] == "lm-evaluation-harness"
    write(f"results_{DATE}.json", "{")
    said = refused(log, "--task", make_task(), "--shots", "2")
    assert f"results_{DATE}.json:1" in said


def test_rows_of_several_filters(
    make_task: Make, imported: Call, refused: Call, row_of: Call, write: Call
) -> None:
    rows = []
    for number, said in enumerate(["It is red.", "Green, I think: green"]):
        for name, made in (("first-word", said.split()[0]), ("last-word", RIGHT[number])):
            score = float(made == RIGHT[number])
            row = generated(number, said, score, filter=name, filtered_resps=[made])
            rows.append(row)
    log = write(f"samples_squares_{DATE}.jsonl", rows)
    options = ("--task", make_task(), "--shots", "0", "--model", "m")
    folder, said = imported(log, *options)
    assert "4 rows, answers to 2 of 12 queries\n" in said
    assert row_of(folder)["value"] == 0  # the raw responses say more than the colour
    assert "their exact_match,first-word 0.00, our exact_match 0.00" in said
    assert "their exact_match,last-word 100.00, our exact_match 0.00 on 2 samples" in said
    assert "choose one: --filter NAME" in refused(log, *options, "--filtered")
    assert "did you mean 'last-word'" in refused(log, *options, "--filter", "last")
    other, said = imported(log, *options, "--filter", "last-word")
    assert other != folder
    assert row_of(other)["value"] == 100
    assert "equal on 2" in said
    assert "first-word" not in said


def test_lm_eval_042_wrote_a_list(
    make_task: Make, imported: Call, row_of: Call, write: Call
) -> None:
    rows = []
    for number, said in enumerate(["red", "pink"]):
        row = generated(number, said, float(number == 0), arguments=[["prompt", {"until": []}]])
        for name in ("filter", "metrics", "doc_hash", "prompt_hash", "target_hash"):
            del row[name]
        rows.append(row | {"resps": [[said, "black"]]})
    # Indented, and called JSON lines all the same; the only file of results beside it.
    log = write("pretrained__org__model_squares.jsonl", json.dumps(rows, indent=2))
    config = {"model": "hf", "model_args": "dtype=float16,pretrained=org/model"}
    write("results.json", {"n-shot": {"squares": 0}, "config": config})
    folder, said = imported(log, "--task", make_task())
    row = row_of(folder)
    assert (row["value"], row["model"], row["shots"]) == (50.0, "model", "0")
    assert "2 samples have several responses; the first is used" in said
    assert "equal on 2" in said


def lmms_row(number: int, said: str, **changes: Any) -> dict[str, Any]:
    """A row of lmms-eval 0.3: no doc, no arguments, and no resps where the filter changed nothing."""
    row = {
        "doc_id": number,
        "target": RIGHT[number % 5],
        "filtered_resps": [said],
        "doc_hash": "0" * 64,
        "input": f"{doc(number)['question']}\nAnswer with a single word.",
        "exact_match": float(said == RIGHT[number % 5]),
        "submission": {"question_id": f"q{number:04d}", "answer": said},
    }
    return {**row, **changes}


def test_lmms_eval_without_documents(
    make_task: Make, imported: Call, refused: Call, row_of: Call, write: Call
) -> None:
    write(
        "20250131_100000_results.json",
        {
            "n-shot": {"squares_val": 0},
            "model_name": "lmms-lab/llava-ov",
            "config": {"model": "llava_onevision", "model_args": "pretrained=lmms-lab/llava-ov"},
            "lmms_eval_version": "0.3.0",
        },
    )
    rows = [lmms_row(0, "red"), lmms_row(1, "pink", resps=[["pink\n"]]), lmms_row(2, "blue")]
    log = write("20250131_100000_samples_squares_val.jsonl", rows)
    folder, said = imported(log, "--task", make_task())
    row = row_of(folder)
    assert (row["model"], row["shots"], row["n"]) == ("llava-ov", "0", 3)
    assert row["value"] == pytest.approx(200 / 3)
    assert row["notes"][0] == "imported from lmms-eval 0.3.0, shots from its log"
    assert row["protocol"] == "imported-lmms-eval"
    assert "ids from the column submission.question_id" in said
    assert "equal on 3" in said
    # Without an id, the number of the row is an id only for who asks for it.
    for each in rows:
        del each["submission"]
    log = write("20250131_100000_samples_squares_val.jsonl", rows)
    said = refused(log, "--task", make_task())
    assert "or --id doc_id, the row number, verified against the text of the questions" in said
    other, _ = imported(log, "--task", make_task(), "--id", "doc_id")
    assert row_of(other)["value"] == row["value"]
    assert other != folder


def test_row_numbers_are_checked_by_the_questions(
    make_task: Make, refused: Call, write: Call, log: Path
) -> None:
    options = ("--task", make_task(), "--shots", "0", "--id", "doc_id")
    moved = [lmms_row(number, "red", doc_id=number + 1) for number in range(3)]
    file = write("20250131_100000_samples_squares_val.jsonl", moved)
    said = refused(file, *options)
    assert "the questions of 3 of 3 rows do not match" in said
    assert "'what colour is square 1?'" in said
    file = write("20250131_100000_samples_squares_val.jsonl", [lmms_row(0, "red", input="")])
    assert "the questions of 1 of 1 rows do not match" in refused(file, *options)
    file = write("20250131_100000_samples_squares_val.jsonl", [lmms_row(0, "red", doc_id=12)])
    assert "12 is not a row number of the split, which has 12" in refused(file, *options)


def test_lmms_eval_before_03_wrote_one_file(
    make_task: Make, imported: Call, row_of: Call, write: Call
) -> None:
    logs = [
        {
            "doc_id": number,
            "doc": {"question_id": f"q{number:04d}", "question": doc(number)["question"]},
            "target": RIGHT[number],
            "arguments": [[f"{doc(number)['question']}\nAnswer briefly.", {"max_new_tokens": 16}]],
            "resps": [[said]],
            "filtered_resps": [said],
            "exact_match": {"question_id": f"q{number:04d}", "score": float(said == RIGHT[number])},
            "perplexity": 12.5,
        }
        for number, said in enumerate(["red", "pink"])
    ]
    args = {
        "model": "llava",
        "model_args": 'pretrained="liuhaotian/llava-v1.5-7b",token=SECRET',
        "num_fewshot": None,
    }
    content = {"args": args, "model_configs": {"task": "squares", "num_fewshot": 0}, "logs": logs}
    folder, said = imported(write("squares.json", content), "--task", make_task())
    row = row_of(folder)
    assert (row["value"], row["model"], row["shots"]) == (50.0, "llava-v1.5-7b", "0")
    assert row["notes"][0] == "imported from lmms-eval, shots from its log"
    assert "their exact_match 50.00, our exact_match 50.00 on 2 samples: equal on 2" in said
    assert "scores in the log that were not compared: perplexity" in said
    assert "SECRET" not in (folder / "run.json").read_text()


@pytest.fixture
def memes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ..tasks.layouts import hateful_memes

    hateful_memes.write(tmp_path / "data")
    monkeypatch.setenv("EMU2EVAL_DATA", str(tmp_path / "data"))


def ranked(number: int, choices: dict[str, float], **changes: Any) -> dict[str, Any]:
    """A row of a multiple-choice task, as 0.4.8 writes it: numbers as texts."""
    arguments = {
        f"gen_args_{place}": {"arg_0": "Is it hateful?", "arg_1": f" {choice}"}
        for place, choice in enumerate(choices)
    }
    pairs = [[str(value), "False"] for value in choices.values()]
    row = {
        "doc_id": number,
        "doc": {"id": number, "label": number % 2},
        "target": str(number % 2),
        "arguments": arguments,
        "resps": [[pair] for pair in pairs],
        "filtered_resps": pairs,
        "filter": "none",
        "metrics": ["acc"],
        "acc": 1.0,
    }
    return {**row, **changes}


def test_ranked_choices_are_matched_by_their_texts(
    memes: None, imported: Call, row_of: Call, write: Call
) -> None:
    # Not in the order of the task's choices, no and yes; samples 1 and 3 are the hateful ones.
    given = {1: (-0.5, -2.0), 2: (-3.0, -0.1), 3: (-2.0, -1.5), 4: (-2.5, -0.4)}
    rows = [ranked(n, {"Yes": yes, "No": no}) for n, (yes, no) in given.items()]
    log = write(f"samples_memes_{DATE}.jsonl", rows)
    folder, said = imported(log, "--task", "hateful_memes", "--shots", "0")
    stored = [json.loads(line) for line in (folder / "responses.jsonl").read_text().splitlines()]
    assert stored[0]["log_probs"] == [-2.0, -0.5]
    assert row_of(folder)["value"] == 100
    # An area under a curve has no value of each sample that theirs could equal.
    assert "scores in the log that were not compared: acc" in said


@pytest.mark.parametrize(
    ("row", "options", "says"),
    [
        (ranked(1, {"A": -1.0, "B": -2.0}), (), "are not the choices of the sample"),
        (ranked(1, {"yes": -1.0}), (), "ranks 1 texts, but the sample"),
        (
            ranked(1, {"yes": -1.0, "no": -2.0}, arguments={}),
            (),
            "does not record which texts it ranks",
        ),
        (ranked(1, {"yes": float("nan"), "no": -2.0}), (), "is not a number"),
        (
            ranked(1, {"yes": -1.0, "no": -2.0}),
            ("--protocol", "openflamingo"),
            "ranks by mean log-probability per token",
        ),
        (generated(1, "yes", 1.0), (), "contains generated text, but the task needs log-prob"),
    ],
)
def test_ranked_choices_that_cannot_be_matched(
    row: dict[str, Any],
    options: tuple[str, ...],
    says: str,
    memes: None,
    refused: Call,
    write: Call,
) -> None:
    row["doc"]["id"] = 1
    log = write(f"samples_memes_{DATE}.jsonl", [row])
    said = refused(log, "--task", "hateful_memes", "--shots", "0", *options)
    assert says in said


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"resps": "red"}, "resps is not a list of responses"),
        ({"resps": [[]]}, "resps is not a list of responses"),
        ({"resps": [[3]]}, "the response is not text but 3"),
        ({"resps": [["red"], ["red"]]}, "the row contains texts for 2 requests"),
        ({"resps": [[["-1.0", "True"]], [["-2.0", "False"]]]}, "ranks choices by log-likelihood"),
    ],
)
def test_rows_that_cannot_be_used(
    changes: dict[str, Any], says: str, make_task: Make, refused: Call, write: Call
) -> None:
    rows = [generated(0, "red", 1.0), generated(1, "red", 0.0, **changes)]
    log = write(f"samples_squares_{DATE}.jsonl", rows)
    said = refused(log, "--task", make_task(), "--shots", "0")
    assert says in said
    assert f"samples_squares_{DATE}.jsonl:2" in said


def test_options_that_are_not_for_logs(log: Path, make_task: Make, refused: Call) -> None:
    said = refused(log, "--task", make_task(), "--answer", "target")
    assert "to use filtered_resps instead: --filtered" in said
    assert "this task needs images" in refused(log, "--task", "easy-vqa-draw")
