"""One file for an experiment: what meets what, all faults at once, and the file that repeats stored runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from emu2eval import Adapter, Limits, evaluate
from emu2eval.engine.carrying import carry_out
from emu2eval.engine.evaluation import planned
from emu2eval.engine.experiment import jobs
from emu2eval.engine.outlook import estimates
from emu2eval.errors import StoreError, UserError
from emu2eval.exports.experiment import written
from emu2eval.report.outlook import outlook
from emu2eval.runs.record import read_record
from emu2eval.spec.experiment import read_experiment
from emu2eval.trust import trusting
from emu2eval.types import Response
from emu2eval.watch import Watcher


@pytest.fixture
def experiment(make_task: Callable[..., Path], make_model: Any, tmp_path: Path) -> Path:
    """Two models, two tasks, of which one has its own shots and limit; in a folder beside the files."""
    make_task(queries=6)
    make_model("robot", default="red")
    folder = tmp_path / "there"
    folder.mkdir()
    return write(
        folder / "experiment.yaml",
        models=[
            "most-common",
            {"model": "../robot.yaml", "set": {"task.output.max_new_tokens": 5}},
        ],
        tasks=[
            "../squares/squares.yaml",
            {"task": "../squares/squares.yaml", "shots": "0*", "limit": 3, "seeds": 7},
        ],
        shots=2,
        seeds=[0, 1],
        out="runs",
    )


def write(path: Path, **content: Any) -> Path:
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def groups(path: Path, **given: Any) -> Any:
    return planned(jobs(read_experiment(path), given))


def test_a_model_has_its_device_and_tasks_their_batch(experiment: Path) -> None:
    content = yaml.safe_load(experiment.read_text())
    content["models"] = ["most-common", {"model": "emu2-nano", "device": "cpu"}]
    content["batch"] = "auto"
    found = jobs(read_experiment(write(experiment, **content)), {})
    assert {(job.options.device, job.options.batch) for job in found} == {
        (None, "auto"), ("cpu", "auto")
    }  # fmt: skip
    given = jobs(read_experiment(experiment), {"device": "cpu", "batch": "3"})
    assert {(job.options.device, job.options.batch) for job in given} == {("cpu", 3)}


def asked(found: Any) -> set[tuple[Any, ...]]:
    return {
        (run.plan.name, run.plan.setting, run.plan.prompts.seed, len(run.plan))
        for group in found
        for run in group
    }


def test_everything_meets_everything_model_by_model(experiment: Path) -> None:
    found = groups(experiment)
    one = {("2", 0, 6), ("2", 1, 6), ("0*", 7, 3)}
    assert asked(found) == {(name, *each) for name in ("most-common", "robot") for each in one}
    assert [{run.plan.name for run in group} for group in found] == [{"most-common"}, {"robot"}]
    tokens = [group[0].plan.task.spec.output.max_new_tokens for group in found]
    assert tokens == [10, 5]
    assert found[0][0].folder.parent == experiment.parent / "runs"


def test_settings_and_protocols_are_axes_and_a_model_may_have_its_own_tasks(
    make_task: Any, tmp_path: Path
) -> None:
    task = make_task(queries=2, protocols={p: {"ask": p + "{image}"} for p in ("plain", "other")})
    path = write(
        tmp_path / "e.yaml",
        models=[
            {
                "model": "most-common",
                "tasks": [{"task": str(task), "protocols": ["plain", "other"]}],
            },
            {"model": {"name": "own", "adapter": "scripted", "settings": {"default": "a"}}},
        ],
        tasks=[str(task)],
        settings=[{}, {"task": {"output": {"max_new_tokens": 3}}}, {"model.settings.default": "b"}],
    )
    with pytest.raises(UserError, match="adapter most-common has no option 'default'") as raised:
        groups(path)
    assert raised.value.where == f"{path}:20"
    content = yaml.safe_load(path.read_text())
    del content["settings"][2]
    first, second = groups(write(path, **content))
    protocols = [(r.plan.task.protocol_name, r.plan.task.spec.output.max_new_tokens) for r in first]
    assert protocols == [("plain", 10), ("plain", 3), ("other", 10), ("other", 3)]
    assert [run.plan.name for run in second] == ["own", "own"]


def test_the_command_line_holds_for_every_run(experiment: Path, tmp_path: Path) -> None:
    found = groups(
        experiment, model=["most-common"], shots=["1"], seed=3, limit=2, out=tmp_path / "else"
    )
    assert asked(found) == {("most-common", "1", 3, 2)}
    assert found[0][0].folder.parent == tmp_path / "else"
    (robot,) = groups(experiment, model=["../robot.yaml"], set=["task.output.max_new_tokens=2"])
    assert {run.plan.task.spec.output.max_new_tokens for run in robot} == {2}
    with pytest.raises(UserError, match="this experiment has no model 'robot'"):
        groups(experiment, model=["robot"])


def test_all_faults_are_told_with_their_lines(experiment: Path) -> None:
    text = experiment.read_text()
    broken = text.replace("shots: 2", "shot: 2").replace("- most-common", "- most-comon")
    experiment.write_text(broken.replace("limit: 3", "limit: 0"))
    with pytest.raises(UserError) as raised:
        read_experiment(experiment)
    told = {str(part.where).rpartition(":")[2]: part.what for part in raised.value.parts}
    assert "did you mean 'shots'" in told["12"]
    assert "tasks.1.limit: expected an integer of at least 1" in told["10"]
    assert "did you mean 'most-common'" in told["2"]

    broken = text.replace("max_new_tokens", "max_new").replace("limit: 3", "protocols: emu3")
    experiment.write_text(broken.replace("most-common", "most-comon") + "ablate: lables\n")
    with pytest.raises(UserError) as raised:
        jobs(read_experiment(experiment))
    said = [(str(part.where), part.what) for part in raised.value.parts]
    assert any(
        where.endswith("yaml:5") and "did you mean 'max_new_tokens'" in what for where, what in said
    )
    assert any(
        "(referenced at" in where and "squares has no protocol" in what for where, what in said
    )
    assert any(where.endswith("yaml:2") and "unknown model" in what for where, what in said)
    assert any("did you mean 'labels'" in what for _, what in said)


def test_a_file_names_no_code(make_task: Any, tmp_path: Path) -> None:
    (tmp_path / "stops_at_import.py").write_text("raise SystemExit('it ran')\n")
    task = str(make_task())
    for content in (
        {"set": {"task.score.scorer": "stops_at_import:Scorer"}},
        {"models": [{"model": {"name": "x", "adapter": "stops_at_import:Model"}}]},
        {"settings": [{"task": {"score": {"clean": ["stops_at_import:clean"]}}}]},
    ):
        path = write(tmp_path / "e.yaml", **{"models": ["most-common"], "tasks": [task], **content})
        with pytest.raises(UserError, match="this file names code: 'stops_at_import:"):
            jobs(read_experiment(path))
    with trusting(), pytest.raises(SystemExit, match="it ran"):
        jobs(read_experiment(path))
    # The tag of a served model is no code.
    path = write(
        path,
        models=[{"model": "most-common", "set": {"task.title": "llama3:latest"}}],
        tasks=[task],
    )
    assert jobs(read_experiment(path))


def test_a_stored_run_is_repeated_from_what_is_written_of_it(
    experiment: Path, tmp_path: Path
) -> None:
    first = carry_out(groups(experiment), Watcher())
    text = written([result.folder for result in first])
    again = write(tmp_path / "again.yaml", **yaml.safe_load(text), out="again")
    second = carry_out(groups(again), Watcher())
    assert {r.folder.name for r in second} == {r.folder.name for r in first}
    for result in second:
        assert read_record(result.folder) == read_record(
            experiment.parent / "runs" / result.folder.name
        )
    assert written([result.folder for result in second]) == text
    assert "seeds: [0, 1]" in text


def test_what_no_file_can_repeat_is_said(make_task: Any, tmp_path: Path) -> None:
    class Says(Adapter):
        limits = Limits(frozenset({"text"}))

        def answer(self, requests: Any) -> list[Response]:
            return [Response(text="red") for _ in requests]

    task = make_task(queries=2)
    (result,) = evaluate(task, Says(), out=tmp_path / "runs")
    with pytest.raises(StoreError, match="a Python object"):
        written([result.folder])
    (result,) = evaluate(task, "most-common", out=tmp_path / "runs")
    task.write_text(task.read_text().replace("Answer:", "Reply:"))
    with pytest.raises(StoreError, match="the file of squares has changed"):
        written([result.folder])


def test_it_continues_and_runs_only_what_is_new(experiment: Path, program: Any) -> None:
    content = yaml.safe_load(experiment.read_text())
    content |= {"tasks": content["tasks"][:1], "seeds": 0}
    write(experiment, **content, report="page/report.html")
    code, table, said = program("run", str(experiment))
    assert (code, table.count("robot")) == (0, 1)
    assert "2 runs (2 models, 1 task), 12 requests; no time estimate" in said
    assert (experiment.parent / "page" / "report.html").is_file()
    write(experiment, **{**content, "shots": [0, 2]})
    said = program("run", str(experiment))[2]
    assert "4 runs (2 models, 1 task), 24 requests, 12 already answered" in said
    assert said.count(": 6 run") == 2
    code, text, _ = program("experiment", "--out", str(experiment.parent / "runs"))
    assert (code, yaml.safe_load(text)["shots"]) == (0, [0, 2])


def test_the_estimate_is_by_the_runs_of_the_model(make_task: Any, tmp_path: Path) -> None:
    task = str(make_task(queries=3))
    path = write(tmp_path / "e.yaml", models=["most-common"], tasks=[task], out="runs")
    (found,) = groups(path)
    assert outlook(estimates([found]), 1).endswith("no time estimate before the first answer")
    carry_out([found], Watcher())
    (later,) = groups(write(path, models=["most-common"], tasks=[task], out="runs", shots=[0, 1]))
    assert "3 already answered; about" in outlook(estimates([later]), 1)


def test_a_suite_stands_for_its_tasks_with_their_own_shots(make_task: Any, tmp_path: Path) -> None:
    make_task(queries=4)
    entry = {"task": "squares.yaml", "shots": [1, 2], "set": ["task.output.max_new_tokens=3"]}
    write(tmp_path / "squares" / "suite.yaml", name="both", title="Both", tasks=[entry])
    path = write(
        tmp_path / "e.yaml", models=["most-common"], tasks=["squares/suite.yaml"], limit=0.5
    )
    (runs,) = groups(path)
    assert asked([runs]) == {("most-common", "1", 0, 2), ("most-common", "2", 0, 2)}
    assert runs[0].plan.task.spec.output.max_new_tokens == 3
    path = write(
        tmp_path / "e.yaml",
        models=["most-common"],
        tasks=[{"task": "squares/suite.yaml", "set": {"task.output.max_new_tokens": 4}}],
        shots=0,
    )
    (runs,) = groups(path)
    assert asked([runs]) == {("most-common", "0", 0, 4)}
    assert runs[0].plan.task.spec.output.max_new_tokens == 4


def test_what_would_be_one_run_twice_is_refused(make_task: Any, tmp_path: Path) -> None:
    task = str(make_task(queries=4))
    two: list[dict[str, Any]] = [
        {"settings": [{}, {"task.score.clean": ["lower"]}]},
        {"tasks": [task, {"task": task, "limit": 2}]},
    ]
    for content in two:
        path = write(tmp_path / "e.yaml", **{"models": ["most-common"], "tasks": [task], **content})
        with pytest.raises(UserError, match="squares, most-common, 0 shots is requested twice"):
            groups(path)
    path = write(tmp_path / "e.yaml", models=["most-common"], tasks=[task, task])
    assert len(groups(path)[0]) == 1


def test_a_file_writes_near_itself_and_stands_for_no_billions(
    make_task: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = str(make_task(queries=2))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for own in ({"out": "/tmp/x"}, {"out": "../../x"}, {"report": "~/x.html"}):
        path = write(tmp_path / "e.yaml", models=["most-common"], tasks=[task], **own)
        with pytest.raises(UserError, match="is outside both this file's folder") as raised:
            read_experiment(path)
        assert raised.value.where == f"{path}:5"
        with trusting():
            assert read_experiment(path)
    many = list(range(200))
    path = write(path, models=["most-common"], tasks=[task], seeds=many, settings=[{}] * 200)
    with pytest.raises(UserError, match="more than 10,000 combinations of tasks, models"):
        jobs(read_experiment(path))
