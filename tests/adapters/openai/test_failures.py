"""A failed request is unscored, never zero, and a good one is never lost: whatever a server replies."""

from __future__ import annotations

import doctest
import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emu2eval import evaluate
from emu2eval.adapters.openai import failures, replies
from emu2eval.adapters.openai.client import Refused
from emu2eval.adapters.openai.failures import stated
from emu2eval.errors import ConfigError, ModelError
from emu2eval.types import Response, TextOutput

from ...chat_server import ChatServer, reply, texts
from .building import openai

WANTED = TextOutput(stop=("\n", ". "))

ANSWERS: list[Any] = [
    "down",
    "\n\ndown",
    " \n\ndown. It hangs.\nSo",
    "<think>Left?\n\nNo.</think>\n\ndown",
    "Left?\n\nNo.</think>\n\ndown",
    "<think>\n</think>\n<think>No.</think>down",
    {"type": "text", "text": "down"},
    ["down"],
    [{"text": "down"}],
    [{"type": "reasoning", "text": "Left?"}, {"type": "text", "text": "\ndown"}],
    [{"type": "thinking", "thinking": [{"type": "text", "text": "Left?"}]}, {"text": "down"}],
    [{"type": "text", "text": "Left?", "thought": True}, {"type": "output_text", "text": "down"}],
]
"""Contents that say "down"."""

BESIDE: list[dict[str, Any]] = [
    {},
    {"reasoning_content": None},
    {"reasoning_content": "Left?\n\nNo."},
    {"reasoning": "Left?", "reasoning_details": [{"type": "reasoning.text", "text": "Left?"}]},
    {"thinking": "Left?"},
]

NOTHING: list[Any] = [
    None,
    [],
    [{}],
    "<think>Left?\n\nNo.",
    [{"type": "reasoning", "text": "Left?"}],
    [{"type": "image_url", "image_url": {"url": "http://127.0.0.1:9/red.png"}}],
]
"""Contents without an answer."""

GOOD_ENDS = ("stop", "length", "eos_token", "tool_calls", "", None)
BAD_ENDS = ("content_filter", "error", "abort", "SAFETY", "network_error", "RECITATION")

STATEMENTS: list[Any] = [
    "out of luck",
    {"message": "out of luck"},
    {"message": "out of luck", "code": 400, "metadata": {}},
    {"code": "bad_image", "detail": "out of luck"},
    [{"msg": "out of luck"}],
]

SILENCE: list[Any] = [None, {}, "", [], {"message": None, "code": None}]
"""Fields called `error` that say nothing."""


def body(content: Any, beside: dict[str, Any], ended: Any, **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": content, **beside}
    return {"choices": [{"message": message, "finish_reason": ended}], **more}


def stored(given: dict[str, Any]) -> Response:
    """As a run stores it."""
    try:
        found = replies.read(given)
    except Refused as error:
        return Response(error=str(error))
    return found if found.error is not None else WANTED.kept(found)


def placed(given: dict[str, Any], error: Any, place: str) -> dict[str, Any]:
    if place == "top":
        return {**given, "error": error}
    (choice,) = given["choices"]
    if place == "message":
        return {"choices": [{**choice, "message": {**choice["message"], "error": error}}]}
    return {"choices": [{**choice, "error": error}]}


PLACES = st.sampled_from(["top", "choice", "message"])


def test_examples_in_docstrings() -> None:
    assert doctest.testmod(failures).failed == 0


def test_a_good_reply_is_never_lost() -> None:
    for content, beside, ended in product(ANSWERS, BESIDE, GOOD_ENDS):
        found = stored(body(content, beside, ended))
        assert (found.text, found.error) == ("down", None), (content, beside, ended)
        thought_inside = content not in ANSWERS[:3] + ANSWERS[6:9]
        assert (found.thought is not None) == (thought_inside or any(beside.values()))


def test_what_holds_no_answer_is_never_zero() -> None:
    for content, beside, ended in product(NOTHING, BESIDE, GOOD_ENDS):
        found = stored(body(content, beside, ended))
        assert found.text is None and found.error, (content, beside, ended)
    for content, beside, ended in product(["", "\n\n"], BESIDE, GOOD_ENDS):
        silent = ended in ("stop", "eos_token") and not any(beside.values())
        found = stored(body(content, beside, ended))
        assert (found.error is None) == silent, (content, beside, ended)


@given(st.sampled_from([*ANSWERS, *NOTHING, ""]), st.sampled_from(BESIDE), st.data())
def test_a_statement_of_failure_outranks_what_came_with_it(
    content: Any, beside: dict[str, Any], data: st.DataObject
) -> None:
    ended = data.draw(st.sampled_from([*GOOD_ENDS, *BAD_ENDS]))
    error = data.draw(st.sampled_from([*STATEMENTS, *SILENCE]))
    found = stored(placed(body(content, beside, ended), error, data.draw(PLACES)))
    failed = error in STATEMENTS or ended in BAD_ENDS
    if failed:
        assert found.text is None and found.error
        assert ("out of luck" if error in STATEMENTS else repr(ended)) in found.error
    elif content in ANSWERS:
        assert (found.text, found.error) == ("down", None)


@settings(max_examples=25)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(["stop", "error"]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["choices", "message", "content", "error", "text", "type"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_a_reply_of_any_shape_is_an_answer_or_an_error(anything: Any) -> None:
    for given_ in ({"choices": anything}, {"choices": [anything]}, body(anything, {}, anything)):
        found = stored(given_)
        assert (found.text is None) == (found.error is not None)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"code": 429}, 429),
        ({"code": "503"}, 503),
        ({"type": "rate_limit_exceeded"}, 429),
        ({"type": "overloaded_error", "code": None}, 529),
        ({"code": "internal_server_error"}, 500),
        ({"type": "BadRequestError", "code": 400}, 400),
        ({"type": "invalid_request_error"}, None),
        ("rate limit", None),
    ],
)
def test_the_state_that_a_failure_names(error: Any, status: int | None) -> None:
    found = stated({"error": error})
    assert found is not None and found.status == status
    if isinstance(error, dict):
        assert stated({"object": "error", **error}) == found


@pytest.fixture
def served(make_model: Any, chat_server: ChatServer) -> Any:
    def make(**settings: Any) -> str:
        settings = {"model": "m", "base_url": chat_server.url, "timeout": 5, **settings}
        return str(make_model("served", "openai", **settings))

    return make


def answers(folder: Path) -> dict[str, dict[str, Any]]:
    lines = (folder / "responses.jsonl").read_text().splitlines()
    return {row["id"]: row for row in map(json.loads, lines)}


FAULTS: list[tuple[Any, str]] = [
    ((400, {}, {"error": {"message": "too long"}}), "HTTP 400: too long"),
    ((403, {}, {"error": {"message": "no", "metadata": {"reasons": ["x"]}}}), "HTTP 403: no"),
    ((500, {}, "boom"), "HTTP 500: boom (attempts: 1)"),
    ((200, {}, "<html>"), "cut off or is not JSON"),
    (
        (200, {}, {"error": {"code": 502, "message": "upstream"}}),
        "HTTP 502 inside HTTP 200: upstre",
    ),
    ((200, {}, {"error": "out of luck"}), "the server reports an error in its reply: out of luck"),
    ((200, {}, {"choices": [], "detail": "?"}), '"detail": "?"'),
    ((200, {}, placed(body("red", {}, "stop"), "broke off", "choice")), "broke off"),
    ((200, {}, body("I cannot", {}, "content_filter")), "'content_filter': I cannot"),
    ((200, {}, body("", {}, "length")), "no text (it ended with 'length')"),
    ((200, {}, body("<think>It is", {}, "length")), "ended during its reasoning"),
]


def test_every_failed_request_is_unscored_and_the_others_are_not(
    make_task: Any, served: Any, chat_server: ChatServer, program: Any
) -> None:
    """End to end: exit code 3, the server's words in the row, and nobody scored 0 for it."""
    chat_server.fault = lambda number, asked: FAULTS[number][0] if number < len(FAULTS) else None
    chat_server.answer = lambda asked: "<think>Hm.\n\nSo.</think>\n\nred"
    task = str(make_task(queries=15, output={"stop": ["\n"]}))
    arguments = ["run", "--task", task, "--model", served(concurrency=1, retries=0)]
    code, printed, said = program(*arguments, "--out", "runs", "--format", "json")
    (row,) = json.loads(printed)
    assert (code, row["n"], row["unscored"]) == (3, 4, len(FAULTS))
    rows = answers(Path("runs") / row["run"])
    errors = [each["error"] for each in rows.values() if "error" in each]
    assert (
        "11 requests failed and stay unscored" in said and "First error: HTTP 400: too long" in said
    )
    for _, words in FAULTS:
        assert sum(words in error for error in errors) == 1, (words, errors)
    assert {each["text"] for each in rows.values() if "error" not in each} == {"red"}
    good = next(name for name, each in rows.items() if "error" not in each)
    unscored = next(name for name, each in rows.items() if "I cannot" in each.get("error", ""))
    _, shown, _ = program("show", "--run", row["run"], "--out", "runs", "--id", unscored)
    assert "raw text: 'I cannot'" in shown and "ended by: content_filter" in shown
    assert shown.count("the server ended the reply with 'content_filter': I cannot") == 2
    _, shown, _ = program("show", "--run", row["run"], "--out", "runs", "--id", good)
    for line in ("thought: 'Hm.\\n\\nSo.'", "text: 'red'", "raw text: '<think>Hm.", "score: "):
        assert line in shown
    chat_server.fault = lambda number, asked: None
    code, printed, _ = program(*arguments, "--out", "runs", "--format", "json")
    (row,) = json.loads(printed)
    assert (code, row["n"], row["unscored"], len(chat_server.asked)) == (0, 15, 0, 15 + 11)


def test_no_stop_string_is_sent_that_could_end_a_thought(
    make_task: Any, served: Any, chat_server: ChatServer
) -> None:
    task = str(make_task(output={"stop": ["\n"]}))
    chat_server.answer = lambda asked: reply("\n\nred\nNext")
    (result,) = evaluate(task, served(), limit=1, out=Path("runs"))
    (row,) = answers(result.folder).values()
    assert (row["text"], row["raw"]) == ("red", "\n\nred\nNext")
    assert "stop" not in chat_server.asked[-1]
    evaluate(task, served(stop=True), limit=1, out=Path("runs"))
    assert chat_server.asked[-1]["stop"] == ["\n"]
    with pytest.raises(ConfigError, match="would end a thought before its answer"):
        openai(stop=True, thinking=100)


def test_of_a_model_that_thinks_a_text_without_an_end_is_no_answer() -> None:
    """Where the prompt's template opens the thought and the server takes it for text."""
    cut = body("It shows a squ", {}, "length")
    assert replies.read(cut).text == "It shows a squ"
    found = replies.read(cut, thinks=True)
    assert (found.text, found.thought) == (None, "It shows a squ")
    assert "to allow more tokens, set model.settings.thinking" in str(found.error)
    for content, beside, ended in product(ANSWERS, BESIDE, ["stop", None]):
        assert replies.read(body(content, beside, ended), thinks=True).error is None


@pytest.mark.parametrize("place", ["top", "choice"])
def test_a_failure_inside_a_reply_is_taken_like_the_state_it_names(
    make_task: Any, served: Any, chat_server: ChatServer, place: str
) -> None:
    too_much = placed(body("re", {}, "error"), {"code": 429, "message": "too many"}, place)

    def fault(number: int, asked: dict[str, Any]) -> Any:
        return (200, {"Retry-After": "0.3"}, too_much) if number == 0 else None

    chat_server.fault, chat_server.answer = fault, lambda asked: "red"
    (result,) = evaluate(str(make_task()), served(concurrency=1), out=Path("runs"))
    assert (result.rows[0].n, result.failed, len(chat_server.asked)) == (12, 0, 13)
    assert chat_server.times[1] - chat_server.times[0] >= 0.3  # nobody asks meanwhile
    asked = [texts(each) for each in chat_server.asked]
    assert asked.count(asked[0]) == 2


@pytest.mark.parametrize(
    ("error", "says"),
    [
        ({"code": 401, "message": "no key"}, "HTTP 401 inside HTTP 200: no key"),
        ({"code": 402, "message": "pay"}, "HTTP 402 inside HTTP 200: pay"),
        ({"code": 429, "type": "insufficient_quota", "message": "pay"}, "HTTP 429 inside HTTP 200"),
    ],
)
def test_a_failure_that_no_request_survives_ends_the_run(
    make_task: Any, served: Any, chat_server: ChatServer, error: Any, says: str
) -> None:
    chat_server.fault = lambda number, asked: (200, {}, {"error": error})
    with pytest.raises(ModelError, match=says):
        evaluate(str(make_task()), served(concurrency=1), out=Path("runs"))
    assert len(chat_server.asked) == 1
