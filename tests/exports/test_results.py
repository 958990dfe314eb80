"""Results as a documented JSON, and as lm-evaluation-harness writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from emu2eval import evaluate
from emu2eval.engine.options import RunOptions
from emu2eval.exports import lm_eval
from emu2eval.exports.results import SCHEMA, Results, as_json, schema_text
from emu2eval.exports.stored import StoredRows, read
from emu2eval.imported.importing import import_run
from emu2eval.runs.record import read_record, write_record


@pytest.fixture
def runs(make_task: Any, make_model: Any, tmp_path: Path) -> tuple[StoredRows, ...]:
    """Two models at two numbers of shots: one of them fails once, two trials."""
    task = str(make_task(queries=6))
    robot = str(make_model("robot", default="red", fail=["square 3"]))
    made = evaluate(task, ["most-common", robot], shots=[0, 2], trials=2, out=tmp_path / "runs")
    return read([result.folder for result in made]).read


def test_the_shipped_schema_is_that_of_the_structs() -> None:
    assert SCHEMA.read_text() == schema_text()


def test_the_document_holds_to_its_schema(runs: tuple[StoredRows, ...]) -> None:
    document = json.loads(as_json(runs))
    _check(document, json.loads(SCHEMA.read_text()))
    robot = next(r for r in document["runs"] if r["model"] == "robot" and r["shots"] == 2)
    whole = robot["numbers"][0]
    assert (whole["unit"], whole["n"], whole["unscored"]) == ("percent", 10, 2)
    assert whole["low"] <= whole["value"] <= whole["high"]
    assert robot["fingerprint"] == read_record(runs[3].folder).fingerprint
    assert {n["group"] for n in robot["numbers"]} == {None, "kind: even", "kind: odd"}
    assert msgspec.json.decode(as_json(runs), type=Results).version == 1
    # What a form of another version, or of another program, says is refused by who reads it.
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(as_json(runs).replace('"version": 1', '"version": 2', 1), type=Results)


def test_the_unit_of_somebody_elses_scorer_is_not_guessed(runs: tuple[StoredRows, ...]) -> None:
    run = runs[0]
    spec = run.record.task.spec
    spec["score"] = {"scorer": "mine:Scorer"}
    document = json.loads(as_json([run]))
    assert {number["unit"] for number in document["runs"][0]["numbers"]} == {None}


def test_the_harness_own_form(runs: tuple[StoredRows, ...], tmp_path: Path) -> None:
    said = list(lm_eval.export(runs, tmp_path / "out"))
    assert sum("results_" in line for line in said) == 4
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"most-common", "robot"}
    files = sorted((tmp_path / "out" / "robot").glob("results_*.json"))
    found = [json.loads(file.read_text()) for file in files]
    assert [each["n-shot"]["squares"] for each in found] == [0, 2]
    zero = found[0]
    assert zero["results"]["squares"]["exact_match,none"] == pytest.approx(0.4)
    assert 0 < zero["results"]["squares"]["exact_match_stderr,none"] < 1
    assert zero["n-samples"]["squares"] == {"original": 6, "effective": 6}
    assert zero["model_name"] == "robot" and zero["configs"]["squares"]["num_fewshot"] == 0
    assert zero["emu2eval"]["squares"]["numbers"][0]["unscored"] == 1
    samples = files[0].with_name(files[0].name.replace("results_", "samples_squares_") + "l")
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    assert [line["doc"]["id"] for line in lines] == ["q0000", "q0001", "q0002", "q0004", "q0005"]
    assert lines[0]["arguments"]["gen_args_0"]["arg_0"] == (
        "<image>what colour is square 0? Answer:"
    )
    assert (lines[0]["resps"], lines[0]["exact_match"], lines[1]["exact_match"]) == (
        [["red"]],
        1,
        0,
    )
    mean = sum(line["exact_match"] for line in lines) / len(lines)
    assert mean == pytest.approx(zero["results"]["squares"]["exact_match,none"])
    # And back again: our own reading of such logs gives the same number.
    task = str(tmp_path / "squares" / "squares.yaml")
    back = import_run(samples, task, settings=RunOptions.of(out=tmp_path / "back"))
    assert back.rows[0].value == pytest.approx(40)
    assert (back.rows[0].model, str(back.rows[0].shots)) == ("robot", "0")


def test_without_the_data_there_are_no_samples(
    runs: tuple[StoredRows, ...], tmp_path: Path, program: Any
) -> None:
    (tmp_path / "squares" / "test.jsonl").unlink()
    code, _, said = program(
        "export", str(runs[0].folder), "--format", "lm-eval", "--file", str(tmp_path / "out")
    )
    assert (code, "no samples, because its prompts cannot be built" in said) == (0, True)
    assert len(list((tmp_path / "out").rglob("*"))) == 2


def test_two_protocols_of_a_task_are_two_tasks(make_task: Any, tmp_path: Path) -> None:
    asks = {name: {"ask": "{image}" + name} for name in ("plain", "other")}
    task = str(make_task(queries=2, protocols=asks))
    folders = [
        result.folder
        for name in asks
        for result in evaluate(task, "most-common", protocol=name, out=tmp_path / "runs")
    ]
    list(lm_eval.export(read(folders).read, tmp_path / "out"))
    (file,) = (tmp_path / "out" / "most-common").glob("results_*.json")
    assert set(json.loads(file.read_text())["results"]) == {
        "squares_plain_test",
        "squares_other_test",
    }


def test_ranked_choices_have_a_request_each(
    make_task: Any, make_model: Any, tmp_path: Path
) -> None:
    output = {"kind": "choice", "choices": ["red", "green"]}
    task = str(make_task(queries=2, output=output, score={"scorer": "choice"}))
    robot = str(make_model("robot", default="red"))
    (result,) = evaluate(task, robot, out=tmp_path / "runs")
    list(lm_eval.export(read([result.folder]).read, tmp_path / "out"))
    (file,) = (tmp_path / "out" / "robot").glob("samples_*.jsonl")
    line = json.loads(file.read_text().splitlines()[0])
    assert [a["arg_1"] for a in line["arguments"].values()] == ["red", "green"]
    assert len(line["resps"]) == 2 and all(len(each[0]) == 2 for each in line["resps"])


def test_a_schema_and_a_mistake_on_the_command_line(program: Any, runs: Any) -> None:
    assert program("export", "--schema")[1] == SCHEMA.read_text()
    code, _, said = program("export", str(runs[0].folder), "--format", "lmeval")
    assert (code, "did you mean 'lm-eval'" in said) == (2, True)
    code, _, said = program("export", "model-index")
    assert (code, "emu2eval export --format model-index" in said) == (2, True)
    write_record(runs[0].folder, runs[0].record)
    code, out, _ = program("export", str(runs[0].folder))
    assert json.loads(out)["runs"][0]["run"] == runs[0].folder.name


def _check(value: Any, schema: Any, root: Any = None) -> None:
    """As much of JSON Schema as ours uses."""
    root = root or schema
    if "$ref" in schema:
        return _check(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    if "anyOf" in schema:
        for each in schema["anyOf"]:
            try:
                return _check(value, each, root)
            except AssertionError:
                continue
        raise AssertionError((value, schema))
    if "enum" in schema:
        assert value in schema["enum"]
        return None
    kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
    kind = schema.get("type")
    if kind in ("number", "integer"):
        assert isinstance(value, int | (float if kind == "number" else int))
    elif kind is not None:
        assert isinstance(value, kinds[kind])
    if kind == "object" and "properties" in schema:
        assert set(schema["required"]) <= set(value) <= set(schema["properties"])
        for key, each in value.items():
            _check(each, schema["properties"][key], root)
    if kind == "array" and schema.get("items"):
        for each in value:
            _check(each, schema["items"], root)
    return None
