"""The key reaches the server and nothing else: no file of a run, no error, no log, no repr."""

from __future__ import annotations

import gc
import json
import logging
import traceback
from pathlib import Path
from typing import Any

import pytest

from emu2eval import evaluate
from emu2eval.errors import ConfigError, ModelError, UserError, raise_together

from ...chat_server import ChatServer
from .building import openai

KEY = "sk-proj-Very5ecret0123456789"


@pytest.fixture(autouse=True)
def _in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVER_KEY", f" {KEY}\n")  # as a careless `export` leaves it


def written(folder: Path) -> str:
    return "".join(p.read_text(errors="replace") for p in folder.rglob("*") if p.is_file())


def test_it_is_sent_and_never_written(
    make_task: Any, make_model: Any, chat_server: ChatServer, caplog: Any, capfd: Any
) -> None:
    """The server repeats the key wherever it can: in answers, errors, headers, its own name."""
    caplog.set_level(logging.DEBUG)
    echo = {"error": {"message": f"Incorrect API key provided: {KEY}"}}

    def fault(number: int, body: dict[str, Any]) -> Any:
        if number == 2:
            return 400, {"X-Key": KEY}, echo
        return (500, {}, echo) if number == 4 else None

    def answer(body: dict[str, Any]) -> dict[str, Any]:
        message = {"role": "assistant", "content": f"your key is {KEY}"}
        choice = {"message": message, "finish_reason": KEY}
        return {"model": KEY, "system_fingerprint": KEY, "choices": [choice]}

    chat_server.fault, chat_server.answer = fault, answer
    settings = {"model": "m", "base_url": chat_server.url, "key_env": "SERVER_KEY"}
    model = str(make_model("served", "openai", **settings, concurrency=1))
    (result,) = evaluate(str(make_task()), model, out=Path("runs"))
    assert {headers["Authorization"] for headers in chat_server.headers} == {f"Bearer {KEY}"}
    text = written(Path("runs"))
    assert "your key is [key]" in text
    assert "Incorrect API key provided: [key]" in text
    assert json.loads((result.folder / "run.json").read_text())["model"]["settings"] == settings | {
        "concurrency": 1
    }
    printed = capfd.readouterr()
    for place in (text, caplog.text, printed.out, printed.err):
        assert KEY not in place


@pytest.mark.parametrize(
    "fault",
    [
        (401, {}, {"error": {"message": f"Incorrect API key provided: {KEY}"}}),
        (403, {}, KEY),
        (404, {}, {"error": KEY}),
        (302, {"Location": f"http://127.0.0.1:9/?key={KEY}"}, KEY),
        (429, {"Retry-After": "9999"}, {"error": {"message": KEY}}),
    ],
)
def test_no_error_shows_it(
    make_task: Any, make_model: Any, chat_server: ChatServer, fault: Any
) -> None:
    chat_server.fault = lambda number, body: fault
    settings = {"model": "m", "base_url": chat_server.url, "key_env": "SERVER_KEY"}
    model = str(make_model("served", "openai", **settings))
    with pytest.raises(ModelError) as caught:
        evaluate(str(make_task()), model, out=Path("runs"))
    shown = "".join(traceback.format_exception(caught.value)) + str(caught.value)
    assert KEY not in shown + repr(vars(caught.value))
    assert KEY not in written(Path("runs"))


def test_a_redirect_takes_nothing_along(
    make_task: Any, make_model: Any, chat_server: ChatServer
) -> None:
    stranger = ChatServer()
    try:
        where = {"Location": f"{stranger.url}/chat/completions"}
        chat_server.fault = lambda number, body: (307, where, {})
        settings = {"model": "m", "base_url": chat_server.url, "key_env": "SERVER_KEY"}
        with pytest.raises(ModelError, match="HTTP 307") as caught:
            evaluate(str(make_task()), str(make_model("served", "openai", **settings)))
        assert "the server's real address" in (caught.value.hint or "")
        assert stranger.asked == []
    finally:
        stranger.close()


def test_a_server_that_cannot_be_reached(make_task: Any, make_model: Any) -> None:
    settings = {"model": "m", "base_url": "http://127.0.0.1:9/v1", "key_env": "SERVER_KEY"}
    model = str(make_model("served", "openai", **settings, retries=0))
    with pytest.raises(ModelError, match="the server cannot be reached") as caught:
        evaluate(str(make_task()), model)
    error: BaseException | None = caught.value
    while error is not None:
        assert KEY not in repr(error) + str(error) + repr(vars(error))
        error = error.__cause__  # `from None`: what lay below is not shown


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"key_env": KEY}, "is not, and is not shown"),
        ({"key_env": "sk_lower_case_key"}, "is not, and is not shown"),
        ({"key_env": "NOT_SET"}, "NOT_SET"),
        ({"key_env": "BROKEN_KEY"}, "BROKEN_KEY is not a key"),
        ({"base_url": f"https://user:{KEY}@host/v1"}, "a user, a password or a query"),
        ({"base_url": f"https://host/v1?key={KEY}"}, "a user, a password or a query"),
        ({"base_url": KEY}, "not a URL"),
        ({"base_url": f"https://[{KEY}"}, "not a URL"),
        ({"image_base": f"https://host/?sig={KEY}"}, "a user, a password or a query"),
    ],
)
def test_a_key_in_the_wrong_place_is_refused_unseen(
    settings: dict[str, Any], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROKEN_KEY", f"{KEY} and more")
    with pytest.raises(ConfigError, match=says) as caught:  # no download is tried
        raise_together(openai(**settings).lacks())
    error: UserError = caught.value
    for shown in (str(error), repr(vars(error)), "".join(traceback.format_exception(error))):
        assert KEY not in shown
        assert "lower_case_key" not in shown.replace('"sk_lower_case_key"', "")


def test_an_open_connection_does_not_show_it(chat_server: ChatServer) -> None:
    adapter = openai(base_url=chat_server.url, key_env="SERVER_KEY")
    adapter.load()
    client = adapter._client
    assert client is not None
    assert KEY not in repr(client) + repr(client._lines) + repr(adapter)
    adapter.close()
    gc.collect()


def test_a_short_key_is_no_secret(
    make_task: Any, make_model: Any, chat_server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Local servers are often given a key such as `red`; answers must not be changed for it."""
    monkeypatch.setenv("SERVER_KEY", "red")
    chat_server.answer = lambda body: "red"
    settings = {"model": "m", "base_url": chat_server.url, "key_env": "SERVER_KEY"}
    (result,) = evaluate(str(make_task()), str(make_model("served", "openai", **settings)))
    assert result.rows[0].value == pytest.approx(25)
