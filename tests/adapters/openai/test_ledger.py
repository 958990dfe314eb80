"""What a server really took: counted from its replies, kept with the run, shown beside the estimate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from emu2eval import ModelError, evaluate, score_again
from emu2eval.adapters.openai.ledger import Ledger
from emu2eval.adapters.openai.settings import PriceSettings
from emu2eval.runs.record import read_judge, read_record
from emu2eval.types import Used

from ...chat_server import ChatServer, reply
from ...conftest import Program

USAGE = {
    "prompt_tokens": 1000,
    "completion_tokens": 20,
    "prompt_tokens_details": {"cached_tokens": 400, "image_tokens": 256},
    "completion_tokens_details": {"reasoning_tokens": 8},
}


@pytest.fixture
def served(make_model: Any, chat_server: ChatServer) -> Any:
    def make(name: str = "served", **settings: Any) -> str:
        settings = {"model": "m", "base_url": chat_server.url, "timeout": 5, **settings}
        return str(make_model(name, "openai", **settings))

    return make


@pytest.mark.parametrize(
    ("prices", "money"),
    [
        ({}, None),
        ({"input": 2, "output": 10}, 0.0022),
        ({"input": 2, "output": 10, "cached": 0.5}, (600 * 2 + 400 * 0.5 + 200) / 1e6),
        ({"output": 10}, 0.0002),
    ],
)
def test_a_reply_is_counted_and_priced(prices: dict[str, float], money: float | None) -> None:
    found = Ledger(PriceSettings(**prices)).counted({"usage": USAGE})
    assert found is not None
    assert (found.tokens_in, found.tokens_out, found.cached) == (1000, 20, 400)
    assert (found.of_images, found.of_thought) == (256, 8)
    assert found.money == (pytest.approx(money) if money is not None else None)


@pytest.mark.parametrize("details", [None, 3, {"cached_tokens": -1}, {"cached_tokens": "all"}, {}])
def test_details_that_are_none_count_nothing(details: Any) -> None:
    told = {"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": details}
    found = Ledger(PriceSettings()).counted({"usage": told})
    assert found == Used(requests=1, tokens_in=5, tokens_out=1)


def test_deepseeks_cache_hits_count_and_never_exceed_what_was_read() -> None:
    told = {"prompt_tokens": 5, "completion_tokens": 1, "prompt_cache_hit_tokens": 9}
    found = Ledger(PriceSettings(input=1, cached=0)).counted({"usage": told})
    assert found is not None
    assert (found.cached, found.money) == (5, 0)


def test_a_stopped_run_goes_on_counting(
    make_task: Any, served: Any, chat_server: ChatServer, program: Program
) -> None:
    """Every reply is in the sum, whichever command asked for it, and no answer that was copied."""
    # Far more than was thought, so that the budget is reached on the way.
    chat_server.answer = lambda body: reply("red", usage={**USAGE, "prompt_tokens": 4000})
    prices = {"input": 2, "output": 10}
    task = str(make_task())
    with pytest.raises(ModelError, match="budget"):
        evaluate(task, served(budget={"tokens": 14_000}, prices=prices), out=Path("runs"))
    (folder,) = Path("runs").iterdir()
    first = read_record(folder).spent
    assert first is not None
    assert 0 < first.requests == len(chat_server.answered) < 12
    (result,) = evaluate(task, served(prices=prices), out=Path("runs"))
    spent = read_record(folder).spent
    assert spent is not None
    assert spent.requests == len(chat_server.answered) == 12
    assert (spent.tokens_in, spent.cached, spent.of_images) == (48_000, 4800, 12 * 256)
    assert spent.money == pytest.approx(12 * 0.0082)
    # Nothing is asked, so nothing is added; scoring again keeps the sum; the identity knows nothing of it.
    evaluate(task, served(prices={"input": 99}), out=Path("runs"))
    score_again(folder)
    assert read_record(folder).spent == spent
    assert "spent" not in json.dumps(result.rows[0].run)
    code, out, _ = program("table", "--cost", "--out", "runs", "--format", "json")
    (line,) = json.loads(out)
    assert code == 0
    assert (line["requests"], line["tokens_in"], line["role"]) == (12, 48_000, "model")
    assert "48,000" in program("table", "--cost", "--out", "runs")[1]


def test_replies_that_say_nothing_and_those_that_were_lost_are_told(
    make_task: Any, served: Any, chat_server: ChatServer
) -> None:
    chat_server.answer = lambda body: {k: v for k, v in reply("red").items() if k != "usage"}
    chat_server.fault = lambda number, body: "cut" if number == 0 else None
    (result,) = evaluate(str(make_task()), served(concurrency=1), out=Path("runs"))
    spent = read_record(result.folder).spent
    assert spent == Used(requests=13, uncounted=13)


def test_a_judges_part_is_kept_apart(
    make_task: Any, served: Any, chat_server: ChatServer, program: Program
) -> None:
    chat_server.answer = lambda body: reply("0.5", usage=USAGE)
    task = make_task(
        queries=2, score={"scorer": "mm_vet"}, output={"kind": "text", "max_new_tokens": 4}
    )
    judge = served("referee", prices={"input": 1, "output": 1})
    (result,) = evaluate(str(task), "most-common", shots=1, judge=judge, out=Path("runs"))
    assert read_record(result.folder).spent is None
    (kept,) = result.folder.glob("judge/*")
    spent = read_judge(kept).spent
    assert spent is not None
    assert spent.requests == result.judged.asked > 0
    out = program("table", "--cost", "--out", "runs", "--format", "markdown")[1]
    assert "| referee | judge |" in out
