"""The adapter against a real HTTP server: what reaches it, and what becomes of its faults."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import random
import signal
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from emu2eval import evaluate
from emu2eval.adapters.conformance import check
from emu2eval.adapters.openai import client, urls
from emu2eval.errors import ConfigError, ModelError, PlanError
from emu2eval.runs.store import RunStore
from emu2eval.types import Mark

from ...chat_server import FAULTS, ChatServer, digests, parts, reply, texts
from .building import openai


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "responses.jsonl").read_text().splitlines()]


@pytest.fixture
def served(make_model: Any, chat_server: ChatServer) -> Any:
    """Writes a model that is asked of the server; returns the path of its YAML."""

    def make(name: str = "served", **settings: Any) -> str:
        settings = {"model": "some/model", "base_url": chat_server.url, "timeout": 5, **settings}
        return str(make_model(name, "openai", **settings))

    return make


def test_every_image_reaches_the_server_in_its_turn(
    make_task: Any, served: Any, chat_server: ChatServer
) -> None:
    protocol = {"ask": "{image}{question} Answer:", "system": "Be brief."}
    task = make_task(protocols={"plain": protocol})
    (result,) = evaluate(str(task), served(), shots=[3])
    stored = {tuple(row["shown"]): row for row in rows(result.folder)}
    assert len(chat_server.answered) == len(stored) == 12
    for body in chat_server.answered:
        roles = [message["role"] for message in body["messages"]]
        assert roles == ["system", *["user", "assistant"] * 3, "user"]
        row = stored[tuple(digests(body))]  # all four, in order, byte for byte
        kinds = ["text" if text is not None else "image" for _, text in parts(body)]
        assert kinds == ["text", *["image", "text", "text"] * 3, "image", "text"]
        assert texts(body)[0] == "Be brief."
        assert texts(body)[-1] == f"what colour is square {int(row['id'][1:])}? Answer:"
        assert (body["model"], body["temperature"], body["max_tokens"]) == ("some/model", 0.0, 10)
    row = next(iter(stored.values()))
    assert (row["ended"], row["tokens_in"], row["tokens_out"]) == ("stop", 11, 3)
    assert row["marks"] == [{"kind": "server", "value": "served-model fp_7"}]


def test_images_of_another_request_are_not_encoded_again(
    make_task: Any, served: Any, chat_server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[bytes] = []
    b64encode = base64.b64encode
    monkeypatch.setattr(
        urls.base64, "b64encode", lambda data: (encoded.append(data), b64encode(data))[1]
    )
    (result,) = evaluate(str(make_task()), served(), shots=[3])
    shown = {image for row in rows(result.folder) for image in row["shown"]}
    assert {hashlib.sha256(data).hexdigest() for data in encoded} == shown
    assert len(encoded) == len(shown) < sum(len(digests(body)) for body in chat_server.answered)


def test_everything_in_one_message(make_task: Any, served: Any, chat_server: ChatServer) -> None:
    (result,) = evaluate(str(make_task()), served(layout="single"), shots=[2])
    assert result.rows[0].unscored == 0
    for body in chat_server.answered:
        (message,) = body["messages"]
        assert message["role"] == "user"
        assert ["text" in part for part in message["content"]] == [False, True] * 3
        assert texts(body)[0].endswith("\n")  # the reply, then the separator
    assert {tuple(row["shown"]) for row in rows(result.folder)} == {
        tuple(digests(body)) for body in chat_server.answered
    }


@pytest.mark.parametrize("seed", [0, 1])
def test_a_storm_loses_nothing_and_asks_nothing_twice(
    make_task: Any, served: Any, chat_server: ChatServer, seed: int
) -> None:
    """Half of all requests meet a fault; one sample meets nothing else."""
    chance = random.Random(seed)
    kinds: list[str] = []

    def fault(number: int, body: dict[str, Any]) -> str | None:
        if "square 7?" in texts(body)[-1]:
            return "500"
        if number < len(FAULTS):
            kinds.append(FAULTS[number])
        else:
            kinds.append(chance.choice(FAULTS) if chance.random() < 0.4 else "")
        return kinds[-1] or None

    chat_server.fault = fault
    chat_server.answer = lambda body: texts(body)[-1].split()[-2]
    model = served(timeout=0.3, retries=12, longest_wait=0.1, concurrency=6)
    (result,) = evaluate(str(make_task(queries=40)), model, out=Path("runs"))
    stored = rows(result.folder)
    assert sorted(row["id"] for row in stored) == [f"q{n:04d}" for n in range(40)]
    for row in stored:
        if row["id"] == "q0007":
            assert row["error"] == "HTTP 500: out of luck (attempts: 13)"
        else:
            assert row["text"] == f"{int(row['id'][1:])}?"  # its own answer and nobody else's
    assert (result.rows[0].n, result.rows[0].unscored, result.failed) == (39, 1, 1)
    assert set(kinds) >= set(FAULTS)
    # Again: only what failed.
    before = len(chat_server.asked)
    chat_server.fault = lambda number, body: None
    (result,) = evaluate(str(make_task(queries=40)), model, out=Path("runs"))
    assert (len(chat_server.asked) - before, result.rows[0].n) == (1, 40)


def test_nobody_asks_while_the_server_wants_rest(
    make_task: Any, served: Any, chat_server: ChatServer
) -> None:
    def fault(number: int, body: dict[str, Any]) -> Any:
        return (429, {"Retry-After": "0.4"}, {}) if number == 0 else None

    chat_server.fault = fault
    (result,) = evaluate(str(make_task()), served(concurrency=1), out=Path("runs"))
    assert result.rows[0].n == 12
    assert chat_server.times[1] - chat_server.times[0] >= 0.4


def test_no_request_waits_for_a_slow_one(
    make_task: Any, served: Any, chat_server: ChatServer
) -> None:
    """Of two places, one is held by the first request while all others are asked."""

    def answer(body: dict[str, Any]) -> str:
        time.sleep(0.4 if body is chat_server.asked[0] else 0)
        return "red"

    chat_server.answer = answer
    evaluate(str(make_task()), served(concurrency=2, batch=2), out=Path("runs"))
    assert len(chat_server.answered) == 12
    assert chat_server.answered[-1] is chat_server.asked[0]


def test_who_waits_to_be_asked_again_takes_no_place(
    make_task: Any, served: Any, chat_server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "FIRST_WAIT", 0.6)
    chat_server.fault = lambda number, body: "500" if number == 0 else None
    (result,) = evaluate(str(make_task()), served(concurrency=1), out=Path("runs"))
    assert (result.rows[0].n, len(chat_server.asked)) == (12, 13)
    assert chat_server.asked[-1] == chat_server.asked[0]


def test_equal_requests_are_asked_once(
    make_task: Any, served: Any, chat_server: ChatServer
) -> None:
    """Also those of which the first is still under way."""

    def answer(body: dict[str, Any]) -> str:
        time.sleep(0.1)
        return "red"

    chat_server.answer = answer
    task = make_task(protocols={"plain": {"ask": "{image}What? Answer:"}}, images=4)
    (result,) = evaluate(str(task), served(concurrency=12), out=Path("runs"))
    assert (result.tally.asked, result.tally.copied, len(chat_server.asked)) == (4, 8, 4)


def test_too_long_a_rest_ends_the_run_and_keeps_what_came(
    make_task: Any, served: Any, chat_server: ChatServer
) -> None:
    def fault(number: int, body: dict[str, Any]) -> Any:
        return (429, {"Retry-After": "3600"}, {}) if number == 5 else None

    chat_server.fault = fault
    with pytest.raises(ModelError, match="a pause of 3,600 seconds"):
        evaluate(str(make_task()), served(concurrency=1), out=Path("runs"))
    (result,) = evaluate(str(make_task()), served(concurrency=1), out=Path("runs"))
    assert (result.tally.kept, result.tally.asked) == (5, 7)


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ((401, {}, {"error": {"message": "Incorrect key"}}), "HTTP 401: Incorrect key"),
        ((404, {}, {"error": "no such model"}), "HTTP 404: no such model"),
        ((307, {"Location": "http://127.0.0.1:9/v1"}, {}), "HTTP 307"),
        ((429, {}, {"error": {"message": "pay", "code": "insufficient_quota"}}), "HTTP 429: pay"),
    ],
)
def test_what_no_request_will_survive_ends_the_run(
    make_task: Any, served: Any, chat_server: ChatServer, fault: Any, says: str
) -> None:
    chat_server.fault = lambda number, body: fault if number == 3 else None
    with pytest.raises(ModelError, match=says) as caught:
        evaluate(str(make_task()), served(concurrency=1), out=Path("runs"))
    assert caught.value.hint
    assert len(chat_server.asked) == 4
    assert len(rows(next(Path("runs").iterdir()))) == 3


def test_a_refused_request_costs_only_itself(
    make_task: Any, served: Any, chat_server: ChatServer
) -> None:
    too_long = (400, {}, {"error": {"message": "the prompt is too long"}})
    chat_server.fault = lambda number, body: too_long if number == 3 else None
    empty = {"choices": [{"message": {"content": None}, "finish_reason": "length"}]}
    chat_server.answer = lambda body: empty if "square 9?" in texts(body)[-1] else "red"
    (result,) = evaluate(str(make_task()), served(concurrency=1), out=Path("runs"))
    errors = sorted(row["error"] for row in rows(result.folder) if "error" in row)
    assert len(chat_server.asked) == 12  # neither is asked again
    assert errors[0] == "HTTP 400: the prompt is too long"
    assert "no text (it ended with 'length')" in errors[1]
    assert (result.rows[0].n, result.rows[0].unscored) == (10, 2)


def test_no_server_is_said_before_anything_else(make_task: Any, served: Any) -> None:
    with pytest.raises(ModelError, match="the server cannot be reached"):
        evaluate(str(make_task()), served(base_url="http://127.0.0.1:9/v1", retries=0))


def test_a_model_without_a_name_is_refused(make_task: Any) -> None:
    with pytest.raises(ConfigError, match="no model name given"):
        evaluate(str(make_task()), "openai-compatible")


def test_a_budget_refuses_what_is_beyond_it(
    make_task: Any, served: Any, chat_server: ChatServer
) -> None:
    for budget, says in (
        ({"requests": 11}, "about 12 requests; the budget allows 11"),
        ({"tokens": 2000}, "the budget allows 2,000"),
        ({"money": 0.01}, "the budget allows 0.01"),
    ):
        model = served(budget=budget, prices={"input": 2.5, "output": 10})
        with pytest.raises(PlanError, match=says):
            evaluate(str(make_task()), model, out=Path("runs"))
    assert chat_server.asked == []
    assert not Path("runs").exists()


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_budget_that_is_reached_stops_and_loses_nothing(
    make_task: Any, served: Any, chat_server: ChatServer, concurrency: int
) -> None:
    used = {"prompt_tokens": 4000, "completion_tokens": 1000}  # far more than was thought
    chat_server.answer = lambda body: reply("red", usage=used)
    task = str(make_task())
    model = served(budget={"tokens": 20_000}, concurrency=concurrency)
    with pytest.raises(ModelError, match="the budget of 20,000 tokens is reached") as caught:
        evaluate(task, model, out=Path("runs"))
    assert "all answers so far are saved" in (caught.value.hint or "")
    (folder,) = Path("runs").iterdir()
    kept = len(rows(folder))
    assert kept == len(chat_server.answered) < 12
    # Those that were under way are waited for, stored, and counted.
    assert f"spent so far: {kept} requests, {5000 * kept:,} tokens" in caught.value.what
    (result,) = evaluate(task, served(), out=Path("runs"))  # a budget is no part of the identity
    assert (result.tally.kept, result.tally.asked) == (kept, 12 - kept)


def test_the_cost_is_told_first(make_task: Any, served: Any) -> None:
    from emu2eval import Watcher

    class Listener(Watcher):
        def __init__(self) -> None:
            self.heard: list[str] = []

        def note(self, text: str) -> None:
            self.heard.append(text)

    listener = Listener()
    model = served(prices={"input": 1000, "output": 1000}, image_tokens=100)
    evaluate(str(make_task()), model, watcher=listener, out=Path("runs"))
    told, used = listener.heard
    assert told.startswith("served: about 12 requests, ")
    # 12 replies of 11 and 3 tokens, as the server counts.
    assert used.startswith(
        "served, used: 12 requests, 132 input tokens, 36 output tokens, cost 0.17 (the estimate was about 12"
    )
    assert ", cost " in told
    evaluate(str(make_task()), model, watcher=listener, out=Path("runs"))
    assert listener.heard == [told, used]  # nothing is left to pay for


def test_what_does_not_fit_is_refused_or_shortened(
    make_task: Any, served: Any, chat_server: ChatServer
) -> None:
    task = str(make_task())
    with pytest.raises(PlanError, match="has 5 images, but served accepts 4"):
        evaluate(task, served(max_images=4), shots=[4])
    tight = {"max_positions": 400, "image_tokens": 100}
    with pytest.raises(PlanError, match="positions, but served has 400"):
        evaluate(task, served(**tight), shots=[4])
    assert chat_server.asked == []
    (result,) = evaluate(task, served(**tight), shots=[4], fit=True, out=Path("runs"))
    assert {len(digests(body)) for body in chat_server.answered} == {3}
    assert result.rows[0].shortened == 12
    stored = rows(result.folder)
    assert {(len(row["examples"]), row["left_out"]) for row in stored} == {(2, 2)}
    near = {row["shown"][-1]: row["shown"] for row in stored}
    assert all(near[digests(body)[-1]] == digests(body) for body in chat_server.answered)


def test_where_the_server_is_decides_nothing(
    make_task: Any, served: Any, chat_server: ChatServer
) -> None:
    task = str(make_task())
    evaluate(task, served(), out=Path("runs"))
    moved = {"base_url": f"{chat_server.url}/", "concurrency": 2}
    (result,) = evaluate(task, served(**moved), out=Path("runs"))
    assert (result.tally.kept, len(chat_server.asked)) == (12, 12)
    for change in ({"temperature": 0.7}, {"revision": "second"}, {"extra": {"top_k": 5}}):
        (result,) = evaluate(task, served(**change), out=Path("runs"))
        assert result.tally.asked == 12
    assert chat_server.asked[-1]["top_k"] == 5


def test_each_trial_of_a_server_that_samples_asks_anew(
    make_task: Any, served: Any, chat_server: ChatServer
) -> None:
    task = str(make_task(queries=2))
    for settings, seeds in (
        ({"temperature": 0.7, "seed": 3}, 6),  # one a request
        ({"temperature": 0.7}, 0),
        ({"temperature": None}, 0),  # the server has one of its own
    ):
        before = len(chat_server.asked)
        (result,) = evaluate(task, served(**settings), trials=3, out=Path("runs"))
        asked = chat_server.asked[before:]
        assert (len(asked), result.rows[0].n, result.rows[0].trials) == (6, 6, 3)
        assert len({body["seed"] for body in asked if "seed" in body}) == seeds
        (again,) = evaluate(task, served(**settings), trials=3, out=Path("runs"))
        assert (again.tally.kept, again.tally.asked) == (6, 0)
    (result,) = evaluate(task, served(seed=3, max_new_tokens=7), trials=3, out=Path("runs"))
    assert (result.tally.asked, chat_server.asked[-1]["seed"]) == (2, 3)
    assert chat_server.asked[-1]["max_tokens"] == 7


def test_beams_that_no_server_has_are_told_of(make_task: Any, served: Any) -> None:
    (result,) = evaluate(str(make_task(output={"beams": 5})), served(), out=Path("runs"))
    assert (Mark("unmet", "beams"), 12) in result.rows[0].marks


def test_a_server_that_changes_its_model_is_told_of(
    make_task: Any, served: Any, chat_server: ChatServer
) -> None:
    chat_server.answer = lambda body: reply("red", model=f"v{len(chat_server.asked) > 4:d}")
    (result,) = evaluate(str(make_task()), served(concurrency=1), out=Path("runs"))
    served_by = {mark.value: count for mark, count in result.rows[0].marks}
    assert served_by == {"v0 fp_7": 4, "v1 fp_7": 8}


def test_prompts_that_begin_alike_are_neighbours(
    make_task: Any, served: Any, chat_server: ChatServer
) -> None:
    task = make_task(queries=16, images=4)  # every image with four questions
    evaluate(str(task), served(concurrency=1), out=Path("runs"))
    order = [digests(body)[0] for body in chat_server.asked]
    changes = sum(left != right for left, right in pairwise(order))
    assert (len(order), changes) == (16, 3)


def test_inside_a_running_event_loop(make_task: Any, served: Any) -> None:
    async def notebook() -> Any:
        return evaluate(str(make_task()), served(), out=Path("runs"))

    (result,) = asyncio.run(notebook())
    assert result.rows[0].n == 12


def test_it_keeps_the_rules_of_adapters(chat_server: ChatServer) -> None:
    chat_server.answer = lambda body: str(len(digests(body)))
    adapter = openai(base_url=chat_server.url, max_positions=100_000)
    assert [finding for finding in check(adapter) if not finding.holds] == []


def _stored() -> int:
    """Whole lines of the only run's responses, while it is running."""
    return sum(path.read_bytes().count(b"\n") for path in Path("runs").glob("*/responses.jsonl"))


@pytest.mark.parametrize(("slowness", "signals", "kept"), [(0.6, 1, 7), (600, 2, 5)])
def test_stopped_by_the_keyboard_in_the_middle_of_a_request(
    make_task: Any, served: Any, chat_server: ChatServer, slowness: float, signals: int, kept: int
) -> None:
    """What is under way is paid for, and waited for if that is not long; nothing more is sent."""

    def answer(body: Any) -> str:
        time.sleep(slowness if len(chat_server.asked) > 5 else 0)
        return "yes"

    chat_server.answer = answer
    command = [sys.executable, "-m", "emu2eval.cli", "run", "--task", str(make_task())]
    process = subprocess.Popen(
        [*command, "--model", served(concurrency=2, timeout=600), "--out", "runs"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        # Started in the background, the tests themselves may be deaf to it, and so would this be.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    limit = time.monotonic() + 60
    # Five are answered and two are under way; what is answered is stored a moment later.
    while (len(chat_server.asked) < 7 or _stored() < 5) and time.monotonic() < limit:
        time.sleep(0.02)
    for _ in range(signals):
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
    _, errors = process.communicate(timeout=60)  # long before a slow server answers
    assert process.returncode == 130
    assert b"waiting up to 10 seconds" in errors
    assert b"run the same command again to continue" in errors
    assert b"Traceback" not in errors
    assert len(rows(next(Path("runs").iterdir()))) == kept
    assert len(chat_server.asked) == 7


def test_each_answer_is_stored_as_it_comes(
    make_task: Any, served: Any, chat_server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at the end of a batch: what was paid for must survive a kill at any time."""
    stored, waited = threading.Event(), []
    append, appended = RunStore.append, []

    def watched(store: RunStore, given: Any) -> None:
        appended.append(list(given))
        append(store, appended[-1])
        stored.set()

    def answer(body: Any) -> str:
        if len(chat_server.asked) == 12:  # the last is answered once the first stands on the disk
            waited.append(stored.wait(30))
        return "yes"

    monkeypatch.setattr(RunStore, "append", watched)
    chat_server.answer = answer
    evaluate(str(make_task()), served(concurrency=1), out=Path("runs"))
    assert waited == [True]
    assert [len(given) for given in appended] == [1] * 12
