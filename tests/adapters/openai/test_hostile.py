"""Replies that are damaged, or made to do harm, cost their own request at most."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emu2eval import evaluate
from emu2eval.adapters.openai.ledger import usage
from emu2eval.errors import ConfigError
from tests.chat_server import ChatServer, reply, texts

from .building import openai

KEY = 'sk-proj/Very"5ecret\\0123456789'


@pytest.fixture
def asked(
    make_task: Any, make_model: Any, chat_server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], list[dict[str, Any]]]:
    """What is stored when the server answers the first of two requests with such a body."""
    monkeypatch.setenv("SERVER_KEY", KEY)

    def run(body: str) -> list[dict[str, Any]]:
        chat_server.fault = lambda number, _: (200, {}, body) if number == 0 else None
        settings = {"model": "m", "base_url": chat_server.url, "key_env": "SERVER_KEY"}
        model = make_model("served", "openai", **settings, concurrency=1, retries=0)
        (result,) = evaluate(str(make_task()), str(model), limit=2, out=Path("runs"))
        stored = (result.folder / "responses.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in stored.splitlines()]

    return run


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("[" * 100_000, "cut off or is not JSON"),
        (json.dumps({"choices": [{"message": {"content": [{"text": 3}]}}]}), "no text"),
        (json.dumps({"choices": [{"message": {"content": []}}]}), "no text"),
    ],
)
def test_what_is_no_answer_is_unscored(asked: Any, body: str, says: str) -> None:
    first, second = asked(body)
    assert says in first["error"] and second["text"] == "yes"


def test_half_a_character(asked: Any) -> None:
    first, second = asked(json.dumps(reply("cut \ud83d")))
    assert first["text"] == "cut \ufffd" and second["text"] == "yes"


def test_the_key_is_found_however_json_writes_it(asked: Any) -> None:
    body = json.dumps(reply(f"your key is {KEY}", model=KEY)).replace("/", "\\/")
    assert KEY not in body.replace("\\/", "/")
    first, _ = asked(body)
    assert (first["text"], first["marks"][0]["value"]) == ("your key is [key]", "[key] fp_7")


@pytest.mark.parametrize("count", [-5, True, "7", 1.5, 10**400])
def test_what_cannot_be_a_number_of_tokens_counts_as_not_told(count: Any) -> None:
    """A number below 0 would give the budget back."""
    assert usage({"usage": {"prompt_tokens": count, "completion_tokens": 2}}) is None
    assert usage({"usage": {"prompt_tokens": 3}}) == (3, 0)


def test_a_bad_reply_lets_the_others_finish(
    make_task: Any, make_model: Any, chat_server: ChatServer
) -> None:
    """None of those under way beside it is asked, and paid, a second time."""
    chat_server.fault = lambda number, body: (200, {}, "[" * 100_000) if number == 3 else None
    settings = {"model": "m", "base_url": chat_server.url, "retries": 0, "concurrency": 4}
    model = str(make_model("served", "openai", **settings))
    (result,) = evaluate(str(make_task()), model, out=Path("runs"))
    assert (result.rows[0].n, result.rows[0].unscored) == (11, 1)
    assert len({texts(body)[-1] for body in chat_server.asked}) == len(chat_server.asked) == 12


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"extra": {"Api-Key": "sk-1"}}, "stored with every run"),
        ({"timeout": -1.0}, "'timeout' .* above 0, got -1.0"),
        ({"requests_per_minute": 0}, "'requests_per_minute' .* above 0, or null, got 0"),
        ({"longest_wait": -1.0}, "'longest_wait' .* at least 0, got -1.0"),
        ({"budget": {"requests": -1}}, "'budget.requests' .* at least 0, or null, got -1"),
        (
            {"prices": {"inputs": 1}},
            "'prices' of adapter openai has no key 'inputs'; did you mean 'input'",
        ),
        ({"model": ""}, "no model name given"),
    ],
)
def test_settings_that_make_no_sense(settings: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        openai(**settings)
    assert "sk-1" not in str(caught.value)
