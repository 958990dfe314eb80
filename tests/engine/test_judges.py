"""Judges: MM-Vet and TouchStone from their official files to a table, with a judge over real HTTP."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from emu2eval import Watcher, evaluate, score_again
from emu2eval.errors import ConfigError, PlanError, StoreError
from emu2eval.exports.experiment import written
from emu2eval.runs import scores

from ..chat_server import ChatServer, digests, texts
from ..conftest import Program
from ..tasks.layouts import mm_vet, touchstone

KEY = "sk-judge-Very5ecret0123456789"


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    mm_vet.write(tmp_path / "data")
    touchstone.write(tmp_path / "data")
    monkeypatch.setenv("EMU2EVAL_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("JUDGE_KEY", KEY)
    return tmp_path / "data"


@pytest.fixture
def robot(make_model: Any, tmp_path: Path) -> str:
    """The model that is judged; `log` tells whether it was asked."""
    return str(make_model("robot", default="a red square", log=str(tmp_path / "log")))


@pytest.fixture
def judge(make_model: Any, chat_server: ChatServer) -> Any:
    def make(name: str = "judge", **settings: Any) -> str:
        where = {"model": "gpt-x", "base_url": chat_server.url, "key_env": "JUDGE_KEY"}
        return str(make_model(name, "openai", **where, **settings))

    return make


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def replies(folder: Path, name: str = "judge") -> list[dict[str, Any]]:
    (found,) = folder.glob(f"judge/{name}_*/responses.jsonl")
    return lines(found)


def test_mm_vet_is_the_official_sum(robot: str, judge: Any, chat_server: ChatServer) -> None:
    """Five runs with grades of their own, added up as mm-vet_evaluator.py does."""
    given = Counter[str]()

    def grade(body: dict[str, Any]) -> str:
        row = texts(body)[-1].splitlines()[-1]
        given[row] += 1
        return f"{(len(row) * given[row] * 7) % 11 / 10} "

    chat_server.answer = grade
    (result,) = evaluate("mm_vet", robot, judge=judge())
    assert len(chat_server.asked) == 8 * 5  # equal words in five runs are five questions
    table = lines(result.folder / "scores.jsonl")
    data = json.loads(Path("data/mm-vet/mm-vet.json").read_text())
    grades = {row["id"]: row["details"]["grades"] for row in table}
    assert any(len(set(five)) > 1 for five in grades.values())
    sums: defaultdict[str, Any] = defaultdict(lambda: np.zeros(5))
    counts = Counter[str]()
    for name, question in data.items():
        order = ["rec", "ocr", "know", "gen", "spat", "math"]
        own = [c for c in order if c in question["capability"]]
        names = [f"capability: {c}" for c in own]
        for label in ("total", *names, f"combination: {'+'.join(own)}"):
            sums[label] += grades[name]
            counts[label] += 1
    rows = {(row.group or "total", row.label): row for row in result.rows}
    assert {group for group, _ in rows} == set(sums)
    for label, total in sums.items():
        runs = total / counts[label] * 100
        row = rows[label, "mm_vet/own by judge"]
        assert row.value == pytest.approx(runs.mean())
        assert rows[label, "mm_vet_std_of_runs/own by judge"].value == pytest.approx(runs.std())
        assert (row.n, row.unscored) == (counts[label], 0)
    assert result.rows[0].label == "mm_vet/own by judge"
    assert (result.tally.asked, result.judged.asked) == (8, 40)


def test_the_judge_is_asked_in_the_official_structure(
    robot: str, judge: Any, chat_server: ChatServer
) -> None:
    chat_server.answer = lambda body: "0.4"
    evaluate("mm_vet", robot, judge=judge())
    asked = {texts(body)[-1].splitlines()[-1] for body in chat_server.asked}
    assert "Which numbers are hidden here? | -1 <AND> -5 | a red square |" in asked
    assert "What is shown? | a square <OR> a blue thing | a red square |" in asked
    for body in chat_server.asked:
        (message,) = body["messages"]
        assert message["role"] == "user"
        assert (body["temperature"], body["max_tokens"], "stop" in body) == (0.0, 8, False)


def test_a_reply_that_cannot_be_read_is_asked_for_again_and_then_unscored(
    robot: str, judge: Any, chat_server: ChatServer
) -> None:
    tried = Counter[str]()

    def grade(body: dict[str, Any]) -> str:
        text = texts(body)[-1]
        if "hidden here? | -1 <AND> -" in text:
            return "good"
        if "Describe the image. | A yellow" in text:
            tried["again" if "nothing else:" in text.splitlines()[-1] else "first"] += 1
            return "0.8 or so" if tried["again"] else "fair"
        return "0.5"

    chat_server.answer = grade
    (result,) = evaluate(
        "mm_vet", robot, judge=judge(concurrency=1), changes=["task.score.options.rounds=1"]
    )
    whole = result.rows[0]
    assert (whole.n, whole.unscored) == (6, 2)  # two questions are of the hidden kind
    assert whole.value == pytest.approx(100 * (5 * 0.5 + 0.8) / 6)
    assert tried == {"first": 1, "again": 1}
    kept = Counter((row["id"], row["text"]) for row in replies(result.folder))
    assert kept["v1_1", "good"] == kept["v1_5", "good"] == 4  # every reply is kept
    scores = {row["id"]: row for row in lines(result.folder / "scores.jsonl")}
    assert "no grade could be parsed from the judge's reply in round 1" in scores["v1_1"]["why"]
    assert result.failed == 0
    assert sum(result.unread.values()) == 2
    before = len(chat_server.asked)
    (again,) = evaluate(
        "mm_vet", robot, judge=judge(concurrency=1), changes=["task.score.options.rounds=1"]
    )
    assert len(chat_server.asked) == before
    assert again.rows == result.rows


def test_a_judge_that_cannot_be_read_gives_exit_code_3_and_the_reason(
    robot: str, judge: Any, chat_server: ChatServer, program: Any
) -> None:
    chat_server.answer = lambda body: "<think>Close.</think>\n\nIt is fair."
    one = "task.score.options.rounds=1"
    told = ["--task", "mm_vet", "--model", robot, "--set", one, "--out", "runs", "-f", "json"]
    code, printed, said = program("run", *told, "--judge", judge())
    (row, *_) = json.loads(printed)
    assert (code, row["n"], row["unscored"]) == (3, 0, 8)
    assert "the judge's replies to 8 answers could not be parsed" in said
    assert "no grade could be parsed from the judge's reply in round 1" in said
    code, _, said = program("score", row["run"], "--out", "runs")  # nobody is asked
    assert (code, "could not be parsed" in said, len(chat_server.asked)) == (3, True, 8 * 4)


def test_as_many_requests_are_announced_as_are_made(
    robot: str, judge: Any, chat_server: ChatServer
) -> None:
    """Those about equal answers, failed answers and unreadable replies too."""
    table = Path("data/mm-vet/mm-vet.json")
    questions = json.loads(table.read_text())
    questions["v1_2"]["answer"] = questions["v1_6"]["answer"]  # and their questions are equal
    table.write_text(json.dumps(questions))
    chat_server.answer = lambda body: "fair" if "hidden here?" in texts(body)[-1] else "0.5"
    listener = Listener()
    changes = ["model.settings.fail=[Describe the image]", "task.score.options.rounds=1"]
    (result,) = evaluate("mm_vet", robot, judge=judge(), changes=changes, watcher=listener)
    told = [int(re.findall("about ([0-9]+) requests", line)[0]) for line in listener.heard]
    outlook, *announced, _ = told  # the last one is what was used, beside the outlook
    assert outlook == 8  # before there are answers, none is known to equal another
    assert sum(announced) == len(chat_server.asked) == result.judged.asked
    assert (
        len(announced) == 4 and "again, because replies could not be parsed" in listener.heard[-2]
    )
    assert listener.announced == listener.count
    assert (result.failed, result.rows[0].n, result.rows[0].unscored) == (2, 4, 4)


def test_touchstone_asks_in_both_orders_and_drops_what_failed(
    robot: str, judge: Any, chat_server: ChatServer
) -> None:
    def rate(body: dict[str, Any]) -> str:
        assert [message["role"] for message in body["messages"]] == ["system", "user"]
        text = texts(body)[-1]
        first = text.split("[Answer of assistant 1]\n")[1].split("\n")[0]
        assert text.startswith("[What the image shows]\nA ")
        if "A blue square.\nIts" in text:  # two of the eight images
            return "I cannot say" if first == "a red square" else "4 2"
        if "A black square.\nIts" in text:
            return "11, 3"
        return "9 3\nbecause"

    chat_server.answer = rate
    (result,) = evaluate("touchstone", robot, judge=judge())
    rounds = [9.0, 3.0] * 5 + [2.0] * 2
    assert result.rows[0].label == "touchstone/own by judge"
    assert result.rows[0].value == pytest.approx(100 * np.mean(rounds))
    assert (result.rows[0].n, result.rows[0].unscored) == (7, 1)
    scores = {
        row["id"]: row.get("details", {}).get("ratings")
        for row in lines(result.folder / "scores.jsonl")
    }
    assert scores["0"] == [3.0, 9.0]  # second beside the reference, then first
    assert (scores["2"], scores["4"]) == ([2.0], None)
    groups = {row.group: row.n + row.unscored for row in result.rows}
    assert groups["category: Recognition"] == 4  # two of them with another category
    assert groups["category: Comprehension"] == 2


def test_no_judge_is_refused_before_anything_is_asked(robot: str) -> None:
    for tasks in ("mm_vet", ["mm_vet", "touchstone"]):
        with pytest.raises(ConfigError, match="needs a judge, but none is given") as caught:
            evaluate(tasks, robot)
        assert "--judge gpt-4-0613" in str(caught.value)
    with pytest.raises(ConfigError, match="easy-vqa is scored without a judge"):
        evaluate("easy-vqa", robot, judge=robot)
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        evaluate("mm_vet", robot, judge="gpt-4-0613")
    with pytest.raises(ConfigError, match="did you mean 'openai-compatible'"):
        evaluate("mm_vet", robot, judge="openai-compatibel")
    assert not Path("log").exists()
    assert not Path("results").exists()


def test_a_judge_by_its_name_at_a_server(
    robot: str, chat_server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    chat_server.answer = lambda body: "1.0"
    changes = [f"judge.settings.base_url={chat_server.url}"]
    (result,) = evaluate("mm_vet", robot, judge="gpt-4-0613", changes=changes)
    assert result.rows[0].label == "mm_vet/own by gpt-4-0613"
    assert {body["model"] for body in chat_server.asked} == {"gpt-4-0613"}
    assert chat_server.headers[0]["Authorization"] == f"Bearer {KEY}"
    # What would repeat it names the judge as it was named.
    again = yaml.safe_load(written([result.folder]))
    assert again["judge"] == "gpt-4-0613"
    assert again["set"] == {"judge.settings.base_url": chat_server.url}


def test_a_judge_of_a_file_cannot_be_named_by_a_run(
    robot: str, judge: Any, chat_server: ChatServer
) -> None:
    chat_server.answer = lambda body: "1.0"
    (result,) = evaluate("mm_vet", robot, judge=judge(), limit=1)
    with pytest.raises(StoreError, match="the judge of this run, judge, came from a file"):
        written([result.folder])


def test_what_is_stored_is_judged_later_and_scored_without_the_judge(
    robot: str, make_model: Any, judge: Any, chat_server: ChatServer
) -> None:
    chat_server.answer = lambda body: "0.5"
    chat_server.fault = lambda number, body: (400, {}, {}) if number == 3 else None
    (first,) = evaluate("mm_vet", robot, judge=judge(), limit=4)
    assert (first.failed, first.rows[0].n, first.rows[0].unscored) == (1, 3, 1)
    asked = len(chat_server.asked)
    again = score_again(first.folder)  # asks nobody
    assert (again.rows, len(chat_server.asked)) == (first.rows, asked)
    later = score_again(first.folder, judge=judge())  # what failed is asked again
    assert (later.rows[0].n, len(chat_server.asked)) == (4, asked + 1)
    other = str(make_model("other", default="1.0"))
    second = score_again(first.folder, judge=other)
    assert (second.rows[0].value, second.rows[0].label) == (100, "mm_vet/own by other")
    assert scores.read_rows(first.folder) == second.rows
    with pytest.raises(ConfigError, match="replies from several judges"):
        score_again(first.folder)
    assert score_again(first.folder, judge=judge()).rows == later.rows
    assert len(Path("log").read_text().splitlines()) == 4  # the model was asked once for each


def test_the_words_can_be_a_file_and_are_recorded(
    robot: str, judge: Any, chat_server: ChatServer
) -> None:
    path = Path("official.yaml")
    words = {"user": "Q {question} A {answer} P {prediction} {unknown} {}", "system": "Grade."}
    path.write_text(yaml.safe_dump(words))
    chat_server.answer = lambda body: "0.5"
    change = [f"task.score.options.wording={path}"]
    (result,) = evaluate("mm_vet", robot, judge=judge(), changes=change, limit=2)
    assert result.rows[0].label.startswith("mm_vet/official-")
    assert result.rows[0].label.endswith(" by judge")
    assert texts(chat_server.asked[0])[0] == "Grade."
    assert texts(chat_server.asked[0])[1].endswith(" P a red square {unknown} {}")
    (record,) = result.folder.glob("judge/*/judge.json")
    kept = json.loads(record.read_text())
    ((name, used),) = kept["wordings"].items()
    assert (used["user"], used["system"]) == (words["user"], words["system"])
    assert {row["case"]["wording"] for row in replies(result.folder)} == {name}
    assert kept["model"]["settings"]["model"] == "gpt-x"
    # With other words everything is asked anew; with the first ones nothing is.
    own = score_again(result.folder, ["task.score.options.wording=null"], judge=judge())
    assert (own.rows[0].label, own.judged.asked) == ("mm_vet/own by judge", 10)
    assert score_again(result.folder, change, judge=judge()).judged.asked == 0
    assert set(json.loads(record.read_text())["wordings"]) == {name, "own"}
    path.write_text(yaml.safe_dump({"user": "Q {question} P {prediction}"}))
    with pytest.raises(ConfigError, match=r"does not contain \{answer\}"):
        evaluate("mm_vet", robot, judge=judge(), changes=change)


def test_braces_in_an_answer_stay_what_they_are(
    make_model: Any, judge: Any, chat_server: ChatServer
) -> None:
    chat_server.answer = lambda body: "0.5"
    model = str(make_model("robot", default="{answer} {question} {{}}"))
    evaluate("mm_vet", model, judge=judge(), limit=1)
    assert texts(chat_server.asked[0])[0].splitlines()[-1].endswith("| {answer} {question} {{}} |")


def test_the_key_is_in_no_file_of_the_run(robot: str, judge: Any, chat_server: ChatServer) -> None:
    chat_server.answer = lambda body: f"0.5 {KEY}"
    failing = (400, {}, {"error": {"message": KEY}})
    chat_server.fault = lambda number, body: failing if number == 3 else None
    (result,) = evaluate("mm_vet", robot, judge=judge())
    texts = [path.read_text() for path in result.folder.rglob("*") if path.is_file()]
    assert any("0.5 [key]" in text for text in texts)
    assert not any(KEY in text for text in texts)


class Listener(Watcher):
    def __init__(self) -> None:
        self.heard: list[str] = []
        self.announced = self.count = 0

    def note(self, text: str) -> None:
        self.heard.append(text)

    def judging(self, judge: str, requests: int) -> None:
        self.announced += requests
        self.count = self.count if self.announced > requests else 0

    def settled(self, count: int) -> None:
        self.count += count


def test_judging_is_told_in_money_before_it_starts(
    robot: str, judge: Any, chat_server: ChatServer
) -> None:
    chat_server.answer = lambda body: "0.5"
    listener = Listener()
    dear = judge(prices={"input": 2.5, "output": 10}, budget={"requests": 39})
    with pytest.raises(PlanError, match="about 40 requests; the budget allows 39"):
        evaluate("mm_vet", robot, judge=dear)
    assert not Path("log").exists()
    evaluate("mm_vet", robot, judge=judge(prices={"input": 2.5, "output": 10}), watcher=listener)
    before, now, used = listener.heard
    assert before.startswith("judge, judging: about 40 requests, ")
    assert before.endswith(", assuming answers of maximum length") and ", cost " in before
    assert now.startswith("judge, judging: about 40 requests, ")
    assert ", cost " in now
    assert used.startswith(
        "judge, judging, used: 40 requests, 440 input tokens, 120 output tokens, "
    )
    evaluate("mm_vet", robot, judge=judge(prices={"input": 2.5, "output": 10}), watcher=listener)
    assert len(listener.heard) == 3


@pytest.mark.slow
def test_a_judge_that_is_killed_is_asked_nothing_twice(
    robot: str, make_model: Any, tmp_path: Path
) -> None:
    log = tmp_path / "judge.log"
    slow = str(make_model("judge", default="0.5", delay=0.1, batch=1, log=str(log)))
    command = [sys.executable, "-m", "emu2eval.cli", "run", "-t", "mm_vet", "-m", robot]
    kills = 0
    while True:
        stored = {
            row["key"]
            for path in Path("runs").glob("*/judge/*/responses.jsonl")
            for row in lines(path)
        }
        log.write_text("")
        process = subprocess.Popen(
            [*command, "--judge", slow, "--out", "runs"], stderr=subprocess.PIPE, env={**os.environ}
        )
        limit = time.monotonic() + 60
        while kills < 2 and log.stat().st_size < 5 * 65 and time.monotonic() < limit:
            time.sleep(0.01)
        if kills < 2:
            os.kill(process.pid, signal.SIGKILL)
        _, errors = process.communicate(timeout=120)
        asked = log.read_text().splitlines()
        assert not stored & set(asked), "asked twice"
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, errors.decode()
        kills += 1
    (folder,) = Path("runs").iterdir()
    assert len({row["key"] for row in replies(folder)}) == len(replies(folder)) == 40
    assert scores.read_rows(folder)[0].value == 50
    assert len(Path("log").read_text().splitlines()) == 8


MODULE = '''
from PIL import Image

from emu2eval import Adapter, Limits, Response, Score, TextOutput
from emu2eval.media import images
from emu2eval.scorers.judged import JudgedScorer, Wording


class Painter(Adapter):
    """Paints what it is asked for."""

    limits = Limits(frozenset({"image"}), batch=4)

    def answer(self, requests):
        return [
            Response(images=(images.from_pil(Image.new("RGB", (9, 9), self.colour(request.prompt))),))
            for request in requests
        ]

    def colour(self, prompt):
        return prompt.query[-1].split()[-1]


class Likeness(JudgedScorer):
    """How like the sample's image the painted one is."""

    metric = "likeness"
    outputs = frozenset({"image"})
    names = ("once",)

    def __init__(self, wording):
        self.wording = Wording.read("", wording, ("wanted", "painted"))

    def question(self, sample, response, name):
        return {"wanted": sample.images, "painted": response.image}

    def read(self, reply):
        return float(reply) if reply.isdecimal() else None

    def judged(self, sample, response, said):
        return Score(said["once"], why=None if said["once"] else "unread")
'''


def test_a_judge_sees_the_image_that_was_painted(
    tmp_path: Path, make_task: Any, judge: Any, chat_server: ChatServer, monkeypatch: Any
) -> None:
    """In its place among the words, beside the sample's own."""
    (tmp_path / "painting.py").write_text(textwrap.dedent(MODULE))
    (tmp_path / "words.yaml").write_text(
        'user: "Wanted: {wanted} Painted: {painted} Rate 0 to 4."\n'
    )
    (tmp_path / "painter.yaml").write_text('name: painter\nadapter: "painting:Painter"\n')
    monkeypatch.delitem(sys.modules, "painting", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    task = make_task(
        queries=5,
        output={"kind": "image"},
        score={"scorer": "painting:Likeness", "options": {"wording": "words.yaml"}},
        protocols={"plain": {"ask": "{image}paint it {answer}"}},
    )
    chat_server.answer = lambda body: "3"
    (result,) = evaluate(str(task), "./painter.yaml", judge=judge())
    assert result.rows[0].value == 300
    painted = {path.stem for path in (result.folder / "images").glob("*.png")}
    asked = {row["id"]: row["shown"] for row in replies(result.folder)}
    assert len(painted) == len(asked) == 5
    assert {shown[1] for shown in asked.values()} == painted
    for body in chat_server.asked:
        kinds = [part["type"] for part in body["messages"][0]["content"]]
        assert kinds == ["text", "image_url", "text", "image_url", "text"]
        assert digests(body) in asked.values()


def test_from_the_command_line(
    robot: str, judge: Any, chat_server: ChatServer, program: Program
) -> None:
    chat_server.answer = lambda body: "0.5"
    run = ("run", "--task", "mm_vet", "--model", robot)
    code, _, said = program(*run)
    assert code == 2 and "none is given" in said
    _, dry, _ = program(*run, "--judge", judge(), "--dry-run")
    assert "judge, judging: about 40 requests" in dry
    assert chat_server.asked == []
    code, printed, said = program(*run, "--judge", judge(), "--format", "json")
    assert code == 0
    assert "judge, judging: about 40 requests" in said
    assert "8 run, 40 judged" in said
    assert [row["value"] for row in json.loads(printed)] == [50, 0]
    code, printed, _ = program("score", "mm_vet", "--groups", "--format", "json")
    rows = {row["group"]: row["value"] for row in json.loads(printed)}
    assert code == 0
    assert "capability: ocr" in rows
    assert "combination: ocr+math" in rows
    assert len(chat_server.asked) == 40


def test_parts_are_judged_when_they_are_merged(
    robot: str, judge: Any, chat_server: ChatServer, program: Program
) -> None:
    chat_server.answer = lambda body: "0.5"
    for part in ("1/2", "2/2"):
        code, _, said = program("run", "--task", "mm_vet", "--model", robot, "--part", part)
        assert code == 0, said
    code, _, said = program("merge")
    assert code == 2 and "none is given" in said and chat_server.asked == []
    for _ in range(2):
        code, printed, said = program("merge", "--judge", judge(), "--format", "json")
        assert (code, [row["value"] for row in json.loads(printed)]) == (0, [50, 0]), said
        assert len(chat_server.asked) == 40
