"""Plain files of answers and folders of images as runs, through the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emu2eval.data.load import load_split
from emu2eval.media import images
from emu2eval.report import page
from emu2eval.spec.task import load_task
from emu2eval.types import Image

from ..report.test_page import content

Make = Callable[..., Path]
Call = Callable[..., Any]
RUNS = Path("results/runs")
RIGHT = ("red", "green", "blue", "yellow", "black")


def answers(count: int, wrong: int = 0) -> list[dict[str, Any]]:
    """Of the task of squares; the first `wrong` ones are not right."""
    return [
        {"id": f"q{i:04d}", "prediction": "purple" if i < wrong else RIGHT[i % 5]}
        for i in range(count)
    ]


def responses(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "responses.jsonl").read_text().splitlines()]


def own_run(program: Call, task: object, model: object, *more: str) -> Path:
    before = set(RUNS.glob("*"))
    code, _, said = program("run", "--task", str(task), "--model", str(model), *more)
    assert code in (0, 3), said
    (folder,) = set(RUNS.glob("*")) - before
    return folder


def test_a_runs_own_answers_give_its_own_scores(
    make_task: Make, make_model: Make, program: Call, imported: Call, scores: Call, row_of: Call
) -> None:
    task = make_task(images=6)
    model = make_model(replies={"square 1?": " green "}, default="red", fail=["square 5?"])
    own = own_run(program, task, model, "--shots", "2")
    folder, _ = imported(own / "responses.jsonl", "--task", task, "--shots", "2")
    assert folder != own
    assert scores(folder) == scores(own)
    one, other = row_of(own), row_of(folder)
    assert other["unscored"] == one["unscored"] == 1
    for name in ("value", "stderr", "low", "high", "n", "metric", "shots", "queries"):
        assert other[name] == one[name], name
    assert (one["protocol"], other["protocol"]) == ("plain", "imported-unknown")
    assert other["notes"] == ["imported from responses.jsonl, shots as given", "scored as plain"]


@pytest.mark.parametrize("form", ["official", "by id", "tsv"])
def test_official_answers_of_vqav2(
    form: str,
    vqav2: Path,
    make_model: Make,
    program: Call,
    imported: Call,
    scores: Call,
    write: Call,
) -> None:
    model = make_model(replies={"Is it": "Yes."}, default="the red\nand more")
    own = own_run(program, "vqav2", model, "--protocol", "openflamingo", "--shots", "0")
    given = {row["id"]: row["text"] for row in responses(own)}
    assert len(given) == 4
    if form == "official":
        entries = [{"question_id": int(name), "answer": text} for name, text in given.items()]
        file = write("vqa_results.json", entries)
    elif form == "by id":
        file = write("answers.json", given)
    else:
        rows = [f'{name}\t"{text}"' for name, text in given.items()]
        file = write("answers.tsv", "\n".join(["question_id\tanswer", *rows]) + "\n")
    folder, said = imported(
        file, "--task", "vqav2", "--protocol", "openflamingo", "--shots", "0", "--model", "x/y-7b"
    )
    assert scores(folder) == scores(own)
    assert "answers from the column answer" in said
    record = json.loads((folder / "run.json").read_text())
    assert record["task"]["protocol"] == "openflamingo"
    assert record["model"]["name"] == "y-7b"
    assert record["imported"]["files"].keys() == {file.name}


def test_ranked_answers_of_hateful_memes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    program: Call,
    imported: Call,
    refused: Call,
    scores: Call,
    write: Call,
) -> None:
    from ..tasks.layouts import hateful_memes

    hateful_memes.write(tmp_path / "data")
    monkeypatch.setenv("EMU2EVAL_DATA", str(tmp_path / "data"))
    own = own_run(program, "hateful_memes", "nearest", "--shots", "2")
    options = ("--task", "hateful_memes", "--shots", "2")
    folder, _ = imported(own / "responses.jsonl", *options)
    assert scores(folder) == scores(own)
    name = responses(own)[0]["id"]
    for values, says in (
        ([-1.0], "ranks 1 texts, but the sample"),
        ([-1.0, "x"], "not a list of log-probabilities"),
        ("yes", "not a list of log-probabilities"),
    ):
        file = write("ranked.jsonl", [{"id": name, "log_probs": values}])
        said = refused(file, *options)
        assert says in said
        assert "ranked.jsonl:1" in said
    assert "unknown column of answers 'log_probs'" in refused(
        write("texts.jsonl", [{"id": name, "answer": "yes"}]), *options
    )


def test_the_same_file_does_nothing_and_a_changed_one_is_told(
    make_task: Make, imported: Call, write: Call
) -> None:
    task = make_task()
    file = write("answers.jsonl", answers(12, wrong=3))
    folder, said = imported(file, "--task", task, "--shots", "0")
    assert "12 answers stored" in said
    before = {path: path.stat().st_mtime_ns for path in RUNS.rglob("*")}
    again, said = imported(file, "--task", task, "--shots", "0")
    assert again == folder
    assert "already imported, nothing to do" in said
    assert {path: path.stat().st_mtime_ns for path in RUNS.rglob("*")} == before
    write("answers.jsonl", answers(12))
    other, said = imported(file, "--task", task, "--shots", "0")
    assert other != folder
    assert f"the file has changed since it was imported as {folder.name}" in said


def test_a_torn_import_is_completed(
    make_task: Make, imported: Call, write: Call, scores: Call
) -> None:
    task = make_task()
    file = write("answers.jsonl", answers(12, wrong=3))
    folder, _ = imported(file, "--task", task, "--shots", "0")
    whole = scores(folder)
    responses = folder / "responses.jsonl"
    responses.write_bytes(responses.read_bytes()[:700])
    _, said = imported(file, "--task", task, "--shots", "0")
    assert 0 < int(said.rpartition(" answers stored")[0].split()[-1]) < 12
    assert scores(folder) == whole


def test_a_thought_that_was_imported_is_no_part_of_the_answer(
    make_task: Make, imported: Call, write: Call, row_of: Call
) -> None:
    rows = [{**row, "prediction": f"So.</think>\n\n{row['prediction']}"} for row in answers(12)]
    rows[3]["prediction"] = "<think>It is"
    folder, _ = imported(write("thinks.jsonl", rows), "--task", make_task(), "--shots", "0")
    row = row_of(folder)
    assert (row["value"], row["n"], row["unscored"]) == (100.0, 11, 1)


def test_missing_unknown_and_repeated_ids_are_counted(
    make_task: Make, imported: Call, write: Call, row_of: Call
) -> None:
    rows = [*answers(4, wrong=1), answers(2)[1], {"id": "q9999", "prediction": "red"}]
    rows += [{"id": "q0004", "prediction": None}, {"id": "q0000", "prediction": None}]
    folder, said = imported(write("some.jsonl", rows), "--task", make_task(), "--shots", "0")
    assert (
        "8 rows, answers to 5 of 12 queries; 1 ids are not in the split; the first is 'q9999'; 2 rows "
        "are duplicates; 1 have no answer and are unscored"
    ) in said
    row = row_of(folder)
    # Three of the four that were answered are right; nobody answered the others wrongly.
    assert (row["value"], row["n"], row["unscored"]) == (75.0, 4, 1)
    assert row["covered"] < row["queries"]
    assert "5 of 12 queries" in row["notes"]


def test_two_answers_to_one_question_that_differ(
    make_task: Make, refused: Call, write: Call
) -> None:
    file = write("twice.jsonl", [*answers(3), {"id": "q0001", "prediction": "pink"}])
    said = refused(file, "--task", make_task(), "--shots", "0")
    assert "the sample 'q0001' has two different answers" in said
    assert "twice.jsonl:2" in said
    assert "twice.jsonl:4" in said


def test_columns_are_guessed_and_can_be_named(
    make_task: Make, imported: Call, refused: Call, write: Call, row_of: Call
) -> None:
    task = make_task()
    table = "key,n,answer,prediction,note\n" + "".join(
        f"q{i:04d},{i},{RIGHT[i % 5]},purple,q{(i + 1) % 12:04d}\n" for i in range(12)
    )
    file = write("table.csv", table)
    # Two columns of ids that disagree are not chosen between.
    assert "the columns key and note may all contain ids" in refused(file, "-t", task, "-k", "0")
    folder, said = imported(file, "-t", task, "-k", "0", "--id", "key")
    # A column called `answer` beside a prediction is the reference more often than not.
    assert "answers from the column prediction, not answer" in said
    assert "the model is named table, from the file name" in said
    assert row_of(folder)["value"] == 0
    folder, said = imported(file, "-t", task, "-k", "0", "--id", "key", "--answer", "answer")
    assert row_of(folder)["value"] == 100
    assert "answers from" not in said
    assert "did you mean 'answer'" in refused(file, "-t", task, "-k", "0", "--answer", "anwer")
    assert "did you mean 'key'" in refused(file, "-t", task, "-k", "0", "--id", "keys")


def test_ids_that_are_others(make_task: Make, refused: Call, write: Call) -> None:
    task = make_task()
    other = [{"id": f"z{i}", "answer": "red"} for i in range(5)]
    said = refused(write("other.jsonl", other), "--task", task, "--shots", "0")
    assert "no column contains ids that are in squares, split test" in said
    assert "look like 'q0000'" in said
    assert "id 'z0'" in said
    said = refused(write("other.jsonl", other), "--task", task, "--shots", "0", "--id", "id")
    assert "none of the ids in column id is in squares" in said
    # The ids fit, but the questions are others: this is another version of the data, or another split.
    moved = [{**row, "question": f"is it {row['id']}?"} for row in answers(12)]
    said = refused(write("moved.jsonl", moved), "--task", task, "--shots", "0")
    assert "the questions of 12 of 12 rows do not match" in said
    chance = [{"tag": "q0001" if i == 0 else f"x{i}", "answer": "red"} for i in range(5)]
    said = refused(write("chance.jsonl", chance), "--task", task, "--shots", "0")
    assert "no column certainly contains ids: tag has 1 that are" in said


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", '{"id": "q0000", "answer": "red"}\n{"id": \n', "a.jsonl:2"),
        ("a.jsonl", "[1]\n", "a.jsonl:$[0]"),
        ("a.jsonl", "3\n", "a.jsonl:1"),
        ("a.jsonl", "", "the file contains no answers"),
        ("a.jsonl", '{"id": "q0000", "answer": ["red"]}\n', "the answer is not text but ['red']"),
        ("a.jsonl", '{"id": "q0000", "answer": true}\n', "a.jsonl:1"),
        ("a.jsonl", '{"id": "q0000", "answer": "a"}\n{"answer": "b"}\n', "the row has no id"),
        ("a.json", '[\n {"id": "q0000"},\n {"id" "q0001"}]', "a.json:3"),
        ("a.json", '[{"id": "q0000", "answer": "red"}, 3]', "a.json:$[1]"),
        ("a.json", "3", "neither a list nor an object"),
        ("a.csv", "id,answer\nq0000,red,blue\n", "a.csv:2"),
        ("a.csv", 'id,answer\nq0000,"' + "x" * 200_000 + '"\n', "not a text table"),
        ("a.jsonl", '{"id": "q0000", "said": "red"}\n', "choose it: --answer COLUMN"),
        ("a.txt", "red\n", "answers must be in .jsonl, .json, .csv, .tsv files"),
    ],
)
def test_files_that_cannot_be_used(
    name: str, content: str, says: str, make_task: Make, refused: Call, write: Call
) -> None:
    assert says in refused(write(name, content), "--task", make_task(), "--shots", "0")


def test_options_that_cannot_be_used(
    make_task: Make, refused: Call, write: Call, tmp_path: Path
) -> None:
    task = make_task()
    file = write("answers.jsonl", answers(3))
    assert "give it, for example: --shots 0" in refused(file, "--task", task)
    assert "--shots takes integers" in refused(file, "--task", task, "--shots", "many")
    said = refused(file, "--task", task, "--shots", "0", "--label", "plain")
    assert "cannot be labelled with squares's protocol 'plain'" in said
    said = refused(file, "--task", task, "--shots", "0", "--filtered")
    assert "are for logs of other harnesses" in said
    said = refused(file, "--task", task, "--shots", "0", "--set", "model.settings.batch=2")
    assert "has no effect on existing answers" in said
    assert "cannot be read" in refused(tmp_path / "no.jsonl", "--task", task, "--shots", "0")
    assert "this is a folder" in refused(tmp_path, "--task", task, "--shots", "0")
    assert "unknown task" in refused(file, "--task", "squuares", "--shots", "0")


def test_no_name_leaves_the_folder_of_runs(
    make_task: Make, imported: Call, write: Call, tmp_path: Path
) -> None:
    file = write("answers.jsonl", [{**row, "model_id": "../../../etc/x"} for row in answers(3)])
    folder, said = imported(file, "--task", make_task(), "--shots", "0")
    assert "the model is named x, from its log" in said
    assert folder.resolve().parent == (tmp_path / RUNS).resolve()
    folder, _ = imported(file, "--task", make_task(), "--shots", "0", "--model", "..\\..")
    assert folder.resolve().parent == (tmp_path / RUNS).resolve()


def test_compared_tabled_and_scored_like_any_run(
    make_task: Make, make_model: Make, program: Call, imported: Call, write: Call, row_of: Call
) -> None:
    task = make_task()
    own = own_run(program, task, make_model(default="red"), "--shots", "0")
    options = ("--task", task, "--shots", "0")
    better, _ = imported(write("better.jsonl", answers(12, wrong=2)), *options)
    worse, _ = imported(write("worse.jsonl", answers(12, wrong=8)), *options)
    code, out, _ = program("compare", str(worse), str(better), "--format", "csv")
    assert code == 0
    assert "50.0" in out  # six of twelve
    # Prompts of somebody else are another protocol.
    other, _ = imported(write("worse.jsonl", answers(12, wrong=8)), *options, "--label", "theirs")
    assert row_of(other)["protocol"] == "imported-theirs"
    code, _, said = program("compare", str(other), str(better))
    assert code == 2
    assert "their protocols differ (imported-theirs and imported-unknown)" in said
    code, _, said = program("compare", str(own), str(better))
    assert code == 2
    assert "their protocols differ (plain and imported-unknown)" in said
    code, out, _ = program("compare", str(own), str(better), "--force", "--format", "csv")
    assert code == 0
    assert "forced: their protocols differ" in out
    code, out, _ = program("table", "--format", "markdown")
    assert "squares | imported-theirs |" in out
    assert out.count("imported from better.jsonl, shots as given") == 1
    code, out, _ = program("table", "--pivot", "--format", "markdown")
    assert "squares imported-unknown @0" in out
    assert "squares plain @0" in out
    code, out, _ = program("score", str(better), "--set", "task.score.clean=[upper]")
    assert code == 2
    code, out, _ = program("score", str(better), "--set", "task.score.options.normalise=true")
    assert code == 0
    assert row_of(better)["value"] == pytest.approx(100 * 10 / 12)


def test_what_needs_prompts_or_the_model_is_refused(
    make_task: Make, program: Call, imported: Call, write: Call
) -> None:
    folder, _ = imported(write("answers.jsonl", answers(12)), "--task", make_task(), "--shots", "4")
    code, _, said = program("keep", str(folder))
    assert code == 2
    assert "this run cannot be a reference, because it cannot be repeated" in said
    assert not Path("results/reference").exists()
    _, _, said = program("diagnose", str(folder))
    assert "the prompts of this run are unknown: its answers were imported from" in said


def test_the_page_shows_the_sample_in_place_of_the_prompt(
    make_task: Make, imported: Call, write: Call, tmp_path: Path
) -> None:
    folder, _ = imported(write("answers.jsonl", answers(2)), "--task", make_task(), "--shots", "0")
    written = page.write([folder], tmp_path / "report.html")
    assert written.samples == 2
    data = content(tmp_path / "report.html")
    assert "the prompts of this run are unknown" in str(data)
    assert "question: what colour is square 1?" in str(data)


@pytest.fixture
def drawings(tmp_path: Path) -> Path:
    """Images of the right shape, named by the samples of easy-vqa-draw; the first is of another."""
    task = load_task("easy-vqa-draw")
    train = {s.fields["concept"]: s.answer for s in load_split(task, "train")}
    folder = tmp_path / "drawings"
    folder.mkdir()
    for place, sample in enumerate(list(load_split(task, "words"))[:5]):
        shown = train[sample.fields["concept"]]
        if place == 0:
            shown = next(p for c, p in train.items() if c != sample.fields["concept"])
        assert isinstance(shown, Image)
        (folder / f"{sample.id}.png").write_bytes(images.read(shown))
    return folder


def test_a_folder_of_images(
    drawings: Path, imported: Call, refused: Call, program: Call, row_of: Call, write: Call
) -> None:
    options = ("--task", "easy-vqa-draw", "--shots", "0")
    folder, said = imported(drawings, *options, "--model", "a painter")
    row = row_of(folder)
    assert (row["value"], row["n"], row["model"]) == (80.0, 5, "a-painter")
    for given in responses(folder):
        stored = folder / "images" / f"{given['images'][0]}.png"
        assert stored.read_bytes() == (drawings / f"{given['id']}.png").read_bytes()
    assert "answers to 5 of" in said
    code, _, said = program("sheet", str(folder))
    assert code == 2
    assert "the prompts of this run are unknown" in said
    assert "the file has none" in refused(write("a.jsonl", answers(2)), *options)
    first = next(drawings.iterdir())
    first.write_bytes(first.read_bytes()[:100])
    assert str(first) in refused(drawings, *options)
    empty = drawings.parent / "empty"
    empty.mkdir()
    assert "the folder contains no .png" in refused(empty, *options)


def test_what_a_judge_scores_is_stored_first(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_model: Make,
    program: Call,
    imported: Call,
    row_of: Call,
    write: Call,
) -> None:
    from ..tasks.layouts import mm_vet

    mm_vet.write(tmp_path / "data")
    monkeypatch.setenv("EMU2EVAL_DATA", str(tmp_path / "data"))
    file = write("answers.json", {"v1_0": "a cat", "v1_1": "two"})
    folder, said = imported(file, "--task", "mm_vet", "--shots", "0")
    assert f"stored; scoring needs a judge: emu2eval score {folder} --judge NAME" in said
    assert not (folder / "report.json").exists()
    judge = make_model("judge", default="0.5")
    code, _, said = program("score", str(folder), "--judge", str(judge))
    assert code == 0, said
    row = row_of(folder)
    assert (row["value"], row["n"]) == (50.0, 2)
    assert row["notes"][:2] == ["imported from answers.json, shots as given", "scored as plain"]
