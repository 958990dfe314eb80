"""The command line as a user meets it: exit codes, two streams, one paragraph for each mistake."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from .conftest import Program


@dataclass(frozen=True)
class Ran:
    stdout: str
    stderr: str


Emu2eval = Callable[..., Ran]
Refused = Callable[..., str]


@pytest.fixture
def emu2eval(program: Program) -> Emu2eval:
    """Runs `emu2eval …` in this process, which has to end with the exit code `check`."""

    def run(*arguments: str, check: int = 0) -> Ran:
        code, out, err = program(*arguments)
        assert code == check, out + err
        return Ran(out, err)

    return run


@pytest.fixture
def refused(emu2eval: Emu2eval) -> Refused:
    """The paragraph that a mistake gets: exit code 2, nothing on standard output, no traceback."""

    def run(*arguments: str) -> str:
        done = emu2eval(*arguments, check=2)
        assert done.stdout == ""
        assert 1 <= len(done.stderr.splitlines()) < 40
        return done.stderr

    return run


def as_a_process(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "emu2eval.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_main_job_on_published_data(emu2eval: Emu2eval, tmp_path: Path) -> None:
    done = as_a_process(
        *("run", "--task", "easy-vqa", "--model", "most-common", "nearest", "--shots", "0", "2"),
        *("--limit", "60", "--format", "json"),
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [(r["model"], r["shots"], r["n"]) for r in rows] == [
        ("most-common", "0", 60),
        ("most-common", "2", 60),
        ("nearest", "0", 60),
        ("nearest", "2", 60),
    ]
    assert rows[0]["value"] == 0  # nothing was shown, so nothing is known
    assert rows[1]["value"] > 10
    assert "easy-vqa_2-shot_nearest" in emu2eval("ls", "runs").stdout
    table = emu2eval("table", "easy-vqa_2", "--format", "csv").stdout.splitlines()
    assert len(table) == 3
    scored = emu2eval("score", "easy-vqa_2-shot_nearest", "--format", "json").stdout
    assert json.loads(scored)[0]["value"] == rows[3]["value"]


def test_dry_run_asks_nothing(
    emu2eval: Emu2eval, make_task: Any, make_model: Any, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    model = str(make_model(log=str(log)))
    arguments = ["run", "-t", str(make_task()), "-m", model, "-k", "0", "2"]
    planned = emu2eval(*arguments, "--dry-run").stdout
    assert "dry run" in planned
    assert not log.exists()
    assert not Path("results").exists()
    emu2eval(*arguments)
    assert len(log.read_text().splitlines()) == 24


def test_show_prints_the_prompt_and_why(emu2eval: Emu2eval, make_task: Any) -> None:
    shown = emu2eval("show", "--task", str(make_task()), "--shots", "2", "--index", "3").stdout
    assert "query q0003" in shown
    assert shown.count("16 x 16, sha256") == 3
    assert "random: draw 1, seed 0, trial 0" in shown
    assert shown.index("draw 1,") < shown.index(
        "draw 0,"
    )  # the first drawn stands next to the query
    assert "'what colour is square 3? Answer:'" in shown


def test_several_ablations_are_several_runs(
    emu2eval: Emu2eval, make_task: Any, make_model: Any
) -> None:
    task, model = str(make_task()), str(make_model())
    done = emu2eval(
        *("run", "-t", task, "-m", model, "-k", "0", "3", "--ablate", "none", "labels", "order"),
        *("--format", "json"),
    )
    settings = [(row["shots"], row["ablation"]) for row in json.loads(done.stdout)]
    assert settings == [("0", "none"), ("3", "none"), ("3", "labels"), ("3", "order")]
    assert "--ablate labels has nothing to remove" in done.stderr
    shown = emu2eval("show", "--task", task, "--shots", "2", "--ablate", "blank").stdout
    assert "2 (blank) shots" in shown
    # A name without its hash is that run, not the ablated ones whose names begin alike.
    rows = json.loads(emu2eval("table", "squares_3-shot_robot", "--format", "json").stdout)
    assert [(row["shots"], row["ablation"]) for row in rows] == [("3", "none")]
    assert len(json.loads(emu2eval("table", "squares_3", "--format", "json").stdout)) == 3


def test_text_only_demonstrations_are_their_own_setting(emu2eval: Emu2eval, make_task: Any) -> None:
    task = str(make_task())
    true_zero = emu2eval("show", "--task", task, "--shots", "0").stdout
    starred = emu2eval("show", "--task", task, "--shots", "0*").stdout
    assert true_zero.count("sha256") == 1
    assert "demonstration" not in true_zero
    assert starred.count("sha256") == 1  # the query's own
    assert "demonstration 2 of 2" in starred


def test_failed_requests_give_exit_code_3(
    emu2eval: Emu2eval, make_task: Any, make_model: Any
) -> None:
    task = str(make_task())
    model = str(make_model(fail=["square 3?"]))
    done = emu2eval("run", "--task", task, "--model", model, "--format", "json", check=3)
    assert json.loads(done.stdout)[0]["unscored"] == 1
    assert "run the same command again to retry" in done.stderr
    emu2eval("run", "--task", task, "--model", str(make_model()), "--format", "json")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "--task", "easy-vqq"], "did you mean 'easy-vqa'"),
        (["run", "--task", "easy-vqa", "--model", "neerest"], "did you mean 'nearest'"),
        (["run", "--task", "easy-vqa", "--split", "tst"], "did you mean 'test'"),
        (["run", "--task", "easy-vqa", "--protocol", "plian"], "did you mean 'plain'"),
        (["run", "--task", "easy-vqa", "--shots", "-4"], "--shots"),
        (["run", "--task", "easy-vqa", "--shots", "many"], "integers"),
        (["run", "--task", "easy-vqa", "--trials", "0"], "integer from 1"),
        (["run", "--task", "easy-vqa", "--set", "output.beams=3"], "task.KEY=VALUE"),
        (["run", "--task", "easy-vqa", "--set", "task.output.beam=3"], "did you mean 'beams'"),
        (["run", "--task", "easy-vqa", "--set", "task.output.beams=x"], "output.beams"),
        (["run", "--task", "easy-vqa", "--set", "task.score.scorer=vqa"], "'vqa_accuracy'"),
        (["run", "--task", "easy-vqa", "--set", "task.score.options.variant=m"], "has no option"),
        (["run", "--task", "easy-vqa", "--set", "model.settings.bach=1"], "did you mean 'batch'"),
        (
            ["run", "--task", "easy-vqa", "--set", "model.adapter=no.such:Thing"],
            "cannot be imported",
        ),
        (["run", "--task", "easy-vqa", "--set", "task.output.kind=image"], "scores text"),
        (["run", "--task", "no/such.yaml"], "this task file does not exist"),
        (
            ["run", "-m", "most-common", "--task", "easy-vqa", "--shots", "39000", "--limit", "1"],
            "has only 38575",
        ),
        (["show", "--task", "easy-vqa", "--index", "9673"], "0 to 9672"),
        (["show", "--task", "easy-vqa", "--id", "test-0000-what-shape"], "unknown query"),
        (["score", "nothing"], "unknown run"),
        (["table", "nothing"], "unknown run"),
        (["compare", "nothing", "nothing"], "unknown run"),
        (["compare", "nothing"], "unknown run"),
        (["run", "--task", "easy-vqa", "--ablate", "label"], "did you mean 'labels'"),
        (["ls", "taks"], "did you mean 'tasks'"),
    ],
)
def test_mistakes_get_one_clear_paragraph(
    refused: Refused, arguments: list[str], says: str
) -> None:
    assert says in refused(*arguments)


def test_a_folder_without_a_model_file(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    said = refused("run", "--task", "easy-vqa", "--model", str(tmp_path / "weights"))
    assert (
        "not a model folder: it has neither a model.yaml nor a checkpoint's config.json\n"
        f"  where: {tmp_path / 'weights'}\n  try:   give the folder" in said
    )


def test_a_mistake_in_a_process_of_its_own() -> None:
    done = as_a_process("score", "no")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: unknown run 'no'")


@pytest.mark.parametrize("arguments", [["--debug", "score", "no"], ["score", "no", "--debug"]])
def test_the_traceback_is_shown_where_it_is_asked_for(
    emu2eval: Emu2eval, arguments: list[str]
) -> None:
    said = emu2eval(*arguments, check=2).stderr
    assert said.startswith("Traceback") and "error: unknown run 'no'" in said
    assert "--debug" in emu2eval("--help").stdout


def test_what_was_run_and_what_was_reused_is_said(
    emu2eval: Emu2eval, make_task: Any, make_model: Any
) -> None:
    task, model = str(make_task()), str(make_model(fail=["square 3?"]))
    assert "robot" in (said := emu2eval("run", "-t", task, "-m", model, check=3).stderr)
    assert ": 12 run, 1 failed" in said
    again = emu2eval("run", "-t", task, "-m", model, check=3).stderr
    assert ": 1 run, 11 reused, 1 failed" in again


def test_missing_data_lists_all_that_is_needed(
    refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMU2EVAL_DATA", str(tmp_path / "d"))
    text = refused("run", "--task", "vqav2", "--model", "copy", "--shots", "4")
    for wanted in (
        "v2_Questions_Val_mscoco.zip",
        "v2_Annotations_Train_mscoco.zip",
        "6 GB",
        "13 GB",
        str(tmp_path / "d"),
        "http://images.cocodataset.org/zips/train2014.zip",
        "EMU2EVAL_DATA",
    ):
        assert wanted in text
    # At zero shots no training data is needed, and none is asked for.
    assert "Train" not in refused("run", "--task", "vqav2", "--model", "copy", "--shots", "0")


def test_half_the_data_is_there(
    refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vqav2").mkdir()
    (tmp_path / "coco" / "val2014").mkdir(parents=True)
    (tmp_path / "coco" / "val2014" / "COCO_val2014_000000000042.jpg").touch()
    (tmp_path / "vqav2" / "v2_OpenEnded_mscoco_val2014_questions.json").write_text("{}")
    monkeypatch.setenv("EMU2EVAL_DATA", str(tmp_path))
    text = refused("run", "--task", "vqav2", "--model", "copy")
    assert "v2_Annotations_Val_mscoco.zip" in text
    assert "v2_Questions_Val" not in text
    assert "val2014.zip" not in text


def test_malformed_yaml_names_file_and_line(refused: Refused, make_task: Any) -> None:
    path = make_task()
    text = path.read_text()
    path.write_text(text + "score: {scorer: [\n")
    assert f"{path}:" in refused("run", "--model", "most-common", "--task", str(path))
    path.write_text("- a list\n")
    assert f"{path}:1" in refused("run", "--model", "most-common", "--task", str(path))
    path.write_text(text + "name: again\n")
    line = len(text.splitlines()) + 1
    assert f"'name' appears twice\n  where: {path}:{line}" in refused(
        "run", "--model", "most-common", "--task", str(path)
    )
    path.write_text(text.replace("chooser", "choser") + "demonstratons: {}\n")
    assert f"did you mean 'demonstrations'?\n  where: {path}:{line}" in refused(
        "run", "--model", "most-common", "--task", str(path)
    )
    path.write_bytes(b"\xff\xfe\0")
    assert "UTF-8" in refused("run", "--model", "most-common", "--task", str(path))


def damage(name: str, path: Path) -> None:
    if name == "missing":
        path.unlink()
    elif name == "empty":
        path.write_bytes(b"")
    elif name == "truncated":
        path.write_bytes(path.read_bytes()[:-20])
    elif name == "no image":
        path.write_text("<html>404</html>")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("missing", "does not exist"),
        ("empty", "empty"),
        ("truncated", "truncated"),
        ("no image", "not an image"),
    ],
)
def test_a_bad_image_stops_the_run_and_loses_nothing(
    emu2eval: Emu2eval,
    refused: Refused,
    make_task: Any,
    make_model: Any,
    tmp_path: Path,
    name: str,
    says: str,
) -> None:
    task = make_task()
    image = task.parent / "images" / "0009.png"
    whole = image.read_bytes()
    damage(name, image)
    log = tmp_path / "log"
    arguments = ["run", "-t", str(task), "-m", str(make_model(log=str(log), batch=1))]
    text = refused(*arguments)
    assert says in text
    assert str(image) in text
    image.write_bytes(whole)
    emu2eval(*arguments)
    assert len(log.read_text().splitlines()) == 12  # what was answered before is not asked again


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("id", "q0001", "'q0001' appears twice"),
        ("id", "", "no id"),
        ("image", "../../secret.png", "outside the data folder"),
    ],
)
def test_bad_rows(refused: Refused, make_task: Any, column: str, value: str, says: str) -> None:
    task = make_task()
    rows = [json.loads(line) for line in (task.parent / "test.jsonl").read_text().splitlines()]
    rows[5][column] = value
    (task.parent / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert says in refused("run", "--model", "most-common", "--task", str(task))


def test_a_results_folder_that_is_a_file(refused: Refused, make_task: Any, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("not a folder")
    text = refused(
        "run",
        "--model",
        "most-common",
        "--task",
        str(make_task()),
        "--out",
        str(tmp_path / "taken"),
    )
    assert "cannot write" in text
    assert "--out" in text


def test_a_template_that_forgets_a_image_is_refused(refused: Refused, make_task: Any) -> None:
    """Dropping a demonstration's image in silence is what this project exists to end."""
    task = make_task(protocols={"plain": {"ask": "{question} Answer:"}})
    text = refused("run", "--model", "most-common", "--task", str(task))
    assert "places 0 of the 1 images" in text
    task = make_task(protocols={"plain": {"ask": "{image}{quesion}"}})
    assert "did you mean 'question'" in refused(
        "run", "--model", "most-common", "--task", str(task)
    )


def test_check_and_ls(make_task: Any, program: Program) -> None:
    assert "ok  task vqav2" in program("check")[1]
    assert "12 samples" in program("check", "--task", str(make_task()))[1]
    assert "nearest" in program("ls", "models")[1]
    assert "vqa_accuracy" in program("ls", "scorers")[1]
    assert "nearest" in program("ls", "adapters")[1]
    assert "no runs yet" in program("ls", "runs")[1]
    code, out, _ = program("check", "--task", "vqav2")
    assert (code, "no  " in out) == (2, True)


def test_help_has_examples(program: Program) -> None:
    for verb in ("run", "show", "check", "ls", "score", "table", "compare", "diagnose"):
        text = program(verb, "--help")[1]
        assert "Examples:" in text
        assert f"emu2eval {verb} " in text


def test_values_on_the_command_line_are_yaml(
    emu2eval: Emu2eval, make_task: Any, make_model: Any
) -> None:
    task, model = str(make_task()), str(make_model())
    done = emu2eval(
        *("run", "-t", task, "-m", model, "--set", "model.settings.default=no"),
        *("task.output.stop=['.', ',']", "--format", "json"),
    )
    (folder,) = Path("results/runs").glob("squares*")
    record = json.loads((folder / "run.json").read_text())
    assert record["model"]["settings"]["default"] == "no"  # a word, not False
    assert record["task"]["spec"]["output"]["stop"] == [".", ","]
    assert json.loads(done.stdout)[0]["value"] == 0


def test_scoring_again_with_another_scorer(
    emu2eval: Emu2eval, refused: Refused, make_task: Any, make_model: Any
) -> None:
    task, model = str(make_task()), str(make_model(default="Red."))
    emu2eval("run", "-t", task, "-m", model)
    strict = emu2eval("score", "squares", "--format", "json").stdout
    mild = emu2eval("score", "squares", "--set", "task.score.options.normalise=true", "-f", "json")
    assert json.loads(strict)[0]["value"] == 0
    assert json.loads(mild.stdout)[0]["value"] > 0
    assert "only task.score" in refused("score", "squares", "--set", "task.output.beams=2")
    # The record says how the scores were made last, by which runs are compared and shown.
    emu2eval("run", "-t", task, "-m", model, "--out", "other")
    again, other = (next(Path(root).iterdir()) for root in ("results/runs", "other"))
    record = json.loads((again / "run.json").read_text())
    assert record["changes"]["task"] == {"score.options.normalise": True}
    assert "metrics differ" in refused("compare", str(again), str(other))


def test_scoring_notices_changed_data(
    emu2eval: Emu2eval, refused: Refused, make_task: Any, make_model: Any
) -> None:
    task = make_task()
    emu2eval("run", "-t", str(task), "-m", str(make_model()))
    path = task.parent / "test.jsonl"
    path.write_text(path.read_text().replace('"answer": "red"', '"answer": "crimson"'))
    assert "has changed" in refused("score", "squares")


def test_output_from_data_is_never_markup(emu2eval: Emu2eval, make_task: Any) -> None:
    task = make_task()
    spec = yaml.safe_load(task.read_text())
    spec["protocols"]["plain"]["ask"] = "{image}[bold red]{question}[/nonsense]"
    task.write_text(yaml.safe_dump(spec))
    assert "[bold red]what colour" in emu2eval("show", "--task", str(task)).stdout


def test_a_huge_image_is_refused(refused: Refused, make_task: Any) -> None:
    task = make_task()
    huge = Image.new("1", (14_000, 14_000))
    huge.save(task.parent / "images" / "0003.png")
    assert "larger than" in refused("run", "--model", "most-common", "--task", str(task))
