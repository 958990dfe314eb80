"""Ranking of choices: from what a server gives, marked where that is less, refused where it is nothing."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from emu2eval import evaluate
from emu2eval.adapters.openai import ranking
from emu2eval.adapters.openai.client import Refused
from emu2eval.errors import ConfigError, PlanError
from emu2eval.types import Mark

from ...chat_server import ChatServer, reply, texts

CHOICES = ["red", "green", "blue", "yellow", "black"]


@pytest.fixture
def task(make_task: Any) -> Any:
    """Choices that may be ranked in each way but by their first token: blue and black begin alike."""

    def make(choices: list[str] = CHOICES, **changes: Any) -> str:
        output = {"kind": "choice", "choices": choices}
        return str(make_task(output=output, score={"scorer": "choice"}, **changes))

    return make


@pytest.fixture
def served(make_model: Any, chat_server: ChatServer) -> Any:
    def make(**settings: Any) -> str:
        return str(make_model("served", "openai", model="m", base_url=chat_server.url, **settings))

    return make


def stored(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "responses.jsonl").read_text().splitlines()]


def vllm(body: dict[str, Any]) -> dict[str, Any]:
    """As vLLM tells the prompt's tokens: here of two letters each; the last message ends the prompt."""
    *_, asked, said = texts(body)
    assert body["messages"][-1]["role"] == "assistant"
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
    assert body["prompt_logprobs"] == 0
    tokens = [said[at : at + 2] for at in range(0, len(said), 2)]
    right = said == CHOICES[int(asked.split()[-2].rstrip("?")) % 5]
    entries: list[Any] = [None, {"5": {"logprob": -3.0, "rank": 9, "decoded_token": "Answer:"}}]
    entries += [
        {"7": {"logprob": -0.5 if right else -2.0, "rank": 1, "decoded_token": token}}
        for token in tokens
    ]
    return reply("?", prompt_logprobs=entries)


@pytest.mark.parametrize("per_token", [False, True])
def test_from_the_prompts_log_probabilities(
    task: Any, served: Any, chat_server: ChatServer, per_token: bool
) -> None:
    chat_server.answer = vllm
    changes = [f"task.output.per_token={str(per_token).lower()}"]
    (result,) = evaluate(
        task(), served(ranking="prompt_logprobs"), shots=[2], changes=changes, out=Path("runs")
    )
    assert (result.rows[0].value, result.rows[0].notes) == (100, ())
    assert len(chat_server.answered) == 12 * 5
    row = next(row for row in stored(result.folder) if row["id"] == "q0003")  # yellow
    each = [-0.5 if c == "yellow" else -2.0 for c in CHOICES]
    tokens = [-(-len(c) // 2) for c in CHOICES]
    wanted = each if per_token else [e * t for e, t in zip(each, tokens, strict=True)]
    assert row["log_probs"] == pytest.approx(wanted)
    assert row["tokens_in"] == 55


def test_from_the_first_token_and_marked_so(
    task: Any, served: Any, chat_server: ChatServer
) -> None:
    listed = [("ye", -0.5), (" yes", -3.0), ("Yes", -2.0), ("n", -4.0), ("no", -2.5), ("no", -4.5)]
    listed += [("maybe", -9.0), (" ", -9.0)]

    def answer(body: dict[str, Any]) -> dict[str, Any]:
        assert (body["logprobs"], body["top_logprobs"], body["max_tokens"]) == (True, 20, 1)
        top = [{"token": t, "logprob": p} for t, p in listed]
        choice = {"message": {"content": "yes"}, "logprobs": {"content": [{"top_logprobs": top}]}}
        return {"choices": [choice]}

    chat_server.answer = answer
    (result,) = evaluate(task(["yes", "no"]), served(ranking="first_token"), out=Path("runs"))
    row = stored(result.folder)[0]
    yes, no = (-0.5, -3.0, -2.0), (-4.0, -2.5, -4.5)
    assert row["log_probs"] == pytest.approx([math.log(sum(map(math.exp, p))) for p in (yes, no)])
    assert len(chat_server.answered) == 12
    assert result.rows[0].marks == ((Mark("first_token"), 12),)


@pytest.mark.parametrize(
    ("settings", "choices", "says"),
    [
        ({}, CHOICES, "ranking"),
        ({"ranking": "first_token"}, CHOICES, "'blue' and 'black' may begin with the same token"),
        ({"ranking": "first_token"}, ["a", ""], "may begin with the same token"),
        ({"ranking": "echo"}, CHOICES, "does not accept images"),
    ],
)
def test_what_cannot_be_ranked_is_refused_while_planning(
    task: Any, served: Any, chat_server: ChatServer, settings: Any, choices: Any, says: str
) -> None:
    with pytest.raises(PlanError) as caught:
        evaluate(task(choices), served(**settings), out=Path("runs"))
    assert says in str(caught.value)
    assert chat_server.asked == []


def test_choices_of_a_sample_are_looked_at_too(make_task: Any, served: Any, tmp_path: Path) -> None:
    path = make_task(output={"kind": "choice"}, score={"scorer": "choice"})
    rows = [json.loads(line) for line in (path.parent / "test.jsonl").read_text().splitlines()]
    for number, row in enumerate(rows):
        row["choices"] = ["red", "rectangle"] if number == 9 else ["red", "blue"]
    (path.parent / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    changes = ["task.data.options.choices=choices"]
    with pytest.raises(PlanError, match="'red' and 'rectangle'") as caught:
        evaluate(str(path), served(ranking="first_token"), changes=changes)
    assert "q0009" in str(caught.value)


def test_a_way_of_ranking_that_does_not_exist(task: Any, served: Any) -> None:
    with pytest.raises(ConfigError, match="did you mean 'prompt_logprobs'"):
        evaluate(task(), served(ranking="prompt_logprob"))


def test_from_an_echoed_prompt(make_task: Any, served: Any, chat_server: ChatServer) -> None:
    def answer(body: dict[str, Any]) -> dict[str, Any]:
        text = body["prompt"]
        assert (body["echo"], body["logprobs"]) == (True, 1)
        offsets = list(range(0, len(text) + 1, 2)) if len(text) % 2 else list(range(len(text)))
        values = [None] + [-0.25] * (len(offsets) - 1)
        return {
            "choices": [{"logprobs": {"text_offset": offsets, "token_logprobs": values}}],
            "usage": {"prompt_tokens": 5},
        }

    chat_server.answer = answer
    path = make_task(
        output={"kind": "choice", "choices": ["no", "yes"]}, score={"scorer": "choice"}
    )
    for name in ("test", "train"):
        file = path.parent / f"{name}.jsonl"
        rows = [json.loads(line) | {"image": []} for line in file.read_text().splitlines()]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    changes = ["task.protocols.plain.ask={question} Answer:"]
    (result,) = evaluate(str(path), served(ranking="echo"), shots=[1], changes=changes, limit=2)
    assert set(chat_server.paths) == {"/v1/completions"}
    prompt = chat_server.asked[0]["prompt"]
    assert prompt.count("Answer:") == 2
    assert prompt.endswith((" no", " yes"))
    assert result.rows[0].n + result.rows[0].unscored == 2


ENTRY = {"1": {"logprob": -1.0, "decoded_token": "no"}}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "returned no log-probabilities for the prompt"),
        ({"prompt_logprobs": [None, ENTRY]}, "do not spell 'yes'"),
        ({"prompt_logprobs": [None, ENTRY | {"2": ENTRY["1"]}]}, "do not spell 'yes'"),
    ],
)
def test_a_prompt_that_does_not_end_in_the_choice(given: Any, says: str) -> None:
    with pytest.raises(Refused, match=says):
        ranking.from_prompt(given, "yes")


def test_an_impossible_token_stays_impossible() -> None:
    never = {"1": {"logprob": -9999.0, "decoded_token": " no"}}
    assert ranking.from_prompt({"prompt_logprobs": [None, never]}, "no") == [-math.inf]


def test_a_choice_beyond_the_alternatives_is_not_guessed() -> None:
    top = [{"token": "yes", "logprob": -0.1}]
    given = {"choices": [{"logprobs": {"content": [{"top_logprobs": top}]}}]}
    with pytest.raises(Refused, match="'no' is not among the 1 most likely first tokens"):
        ranking.from_first_token(given, ["yes", "no"])
    with pytest.raises(Refused, match="returned no alternatives"):
        ranking.from_first_token({"choices": [{"logprobs": None}]}, ["yes", "no"])


def alternatives(*listed: tuple[str, float]) -> dict[str, Any]:
    top = [{"token": token, "logprob": value} for token, value in listed]
    return {"choices": [{"logprobs": {"content": [{"top_logprobs": top}]}}]}


def test_capitals_are_folded_where_the_choices_allow_it() -> None:
    given = alternatives(("Yes", -0.01), ("no", -5.0), ("No", -6.0), ("yes", -7.0))
    yes, no = ranking.from_first_token(given, ["yes", "no"], 0.5)
    assert yes == pytest.approx(math.log(math.exp(-0.01) + math.exp(-7)))
    assert no == pytest.approx(math.log(math.exp(-5) + math.exp(-6)))
    # Where two choices fold together, a capital tells them apart.
    given = alternatives(("A", -0.1), ("a", -2.5), ("b", -9.0))
    assert ranking.from_first_token(given, ["A", "a", "b"], 0.5) == pytest.approx([-0.1, -2.5, -9])


def test_a_model_that_is_about_to_say_something_else_is_unscored(
    task: Any, served: Any, chat_server: ChatServer
) -> None:
    given = alternatives(("<think>", -0.01), ("yes", -6.0), ("no", -5.0))
    with pytest.raises(Refused, match=r"have 0\.0092 .* most likely token is '<think>'"):
        ranking.from_first_token(given, ["yes", "no"], 0.5)
    chat_server.answer = lambda body: given
    path = task(["yes", "no"])
    (result,) = evaluate(path, served(ranking="first_token"), limit=3, out=Path("runs"))
    assert (result.rows[0].n, result.rows[0].unscored, result.failed) == (0, 3, 3)
    settings = {"ranking": "first_token", "ranking_mass": 0.001}
    (result,) = evaluate(path, served(**settings), limit=3, out=Path("runs"))
    assert (result.rows[0].n, result.rows[0].unscored) == (3, 0)


@pytest.mark.parametrize("ranking", ["first_token", "prompt_logprobs"])
def test_a_ranking_whose_reply_failed_is_unscored(
    task: Any, served: Any, chat_server: ChatServer, ranking: str
) -> None:
    fair = alternatives(("yes", -0.1), ("no", -3.0))
    (choice,) = fair["choices"]
    chat_server.answer = lambda body: {"choices": [choice | {"finish_reason": "abort"}]}
    (result,) = evaluate(task(["yes", "no"]), served(ranking=ranking), limit=1, out=Path("runs"))
    assert result.rows[0].unscored == 1
    assert "ended the reply with 'abort'" in stored(result.folder)[0]["error"]


def test_an_echo_whose_token_spans_prompt_and_choice() -> None:
    found = {"text_offset": [0, 4], "token_logprobs": [None, -1.0]}
    given = {"choices": [{"logprobs": found}]}
    assert ranking.from_echo(given, "ask:", "no") == [-1.0]
    with pytest.raises(Refused, match="no token of the echoed prompt begins where"):
        ranking.from_echo(given, "ask", "no")
