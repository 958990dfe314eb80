"""What a reply holds, each part in its place: text, thought, images, the end."""

from __future__ import annotations

import base64
import doctest
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as PILImage

from emu2eval import evaluate
from emu2eval.adapters.openai import replies
from emu2eval.adapters.openai.client import Refused
from emu2eval.engine.plan import check_request
from emu2eval.errors import PlanError
from emu2eval.types import ImageOutput, Mark, Prompt, Request, TextOutput

from ...chat_server import ChatServer, reply
from .building import openai


def said(message: Any, ended: str = "stop") -> dict[str, Any]:
    return {"choices": [{"message": message, "finish_reason": ended}]}


def image() -> tuple[bytes, dict[str, Any]]:
    data = io.BytesIO()
    PILImage.new("RGB", (8, 8), "red").save(data, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"
    return data.getvalue(), {"type": "image_url", "image_url": {"url": url}}


def test_examples_in_docstrings() -> None:
    assert doctest.testmod(replies).failed == 0


@pytest.mark.parametrize(
    "message",
    [
        {"content": "red", "reasoning_content": "a square, so red"},
        {"content": "red", "reasoning": "a square, so red"},
        {"content": "<think>a square, so red</think>\n\nred"},
        {"content": "a square, so red</think>red"},
        {
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "a square, so red"}]},
                {"type": "text", "text": "red"},
            ]
        },
        {
            "content": [
                {"type": "reasoning", "text": "a square, so red"},
                {"type": "output_text", "text": "red"},
            ]
        },
    ],
)
def test_a_thought_is_no_part_of_the_text(message: dict[str, Any]) -> None:
    found = replies.read(said(message))
    assert (found.text, found.thought, found.ended) == ("red", "a square, so red", "stop")
    inside = isinstance(message["content"], str) and "think>" in message["content"]
    assert found.raw == (message["content"] if inside else None)


@pytest.mark.parametrize(
    "message",
    [
        lambda part: {"content": [{"type": "text", "text": "here"}, part]},
        lambda part: {"content": "here", "images": [part]},
        lambda part: {"content": "here", "images": [{"image_url": part["image_url"]["url"]}]},
    ],
)
def test_text_and_images_are_both_kept(message: Any) -> None:
    data, part = image()
    found = replies.read(said(message(part)))
    assert (found.text, [each.data for each in found.images], found.error) == ("here", [data], None)


def test_an_image_alone_is_an_answer_and_a_link_to_one_is_not() -> None:
    data, part = image()
    found = replies.read(said({"content": None, "images": [part]}))
    assert (found.text, [each.data for each in found.images], found.error) == (None, [data], None)
    link = {"image_url": {"url": "http://127.0.0.1:9/red.png"}}
    assert "no text" in str(replies.read(said({"content": None, "images": [link]})).error)
    broken = {"image_url": {"url": "data:image/png;base64,%%"}}
    with pytest.raises(Refused, match="not base64"):
        replies.read(said({"content": None, "images": [broken]}))


@pytest.mark.parametrize(
    ("message", "ended", "unscored"),
    [
        ({"content": ""}, "stop", False),
        ({"content": "re"}, "length", False),
        ({"content": ""}, "length", True),
        ({"content": ""}, "content_filter", True),
        ({"content": "<think>a square, so"}, "length", True),
        ({"content": None, "reasoning_content": "a square, so"}, "length", True),
        ({"content": None, "refusal": "I will not."}, "stop", False),
    ],
)
def test_an_empty_answer_that_was_cut_off_or_filtered_is_unscored(
    message: dict[str, Any], ended: str, unscored: bool
) -> None:
    found = replies.read(said(message, ended))
    assert (found.error is not None, found.ended) == (unscored, ended)
    if unscored and ended == "length":
        assert "to allow more tokens, set model.settings.thinking" in str(found.error)


def test_everything_is_stored(make_task: Any, make_model: Any, chat_server: ChatServer) -> None:
    chat_server.answer = lambda body: reply("<think>a square</think>red. Next")
    model = make_model("served", "openai", model="m", base_url=chat_server.url)
    task = make_task(output={"stop": ["."]})
    (result,) = evaluate(str(task), str(model), limit=1, out=Path("runs"))
    row = json.loads((result.folder / "responses.jsonl").read_text())
    assert (row["text"], row["thought"]) == ("red", "a square")
    assert (row["raw"], row["ended"]) == ("<think>a square</think>red. Next", "stop")


def test_an_image_that_was_asked_for_is_kept_beside_its_text(chat_server: ChatServer) -> None:
    data, part = image()
    message = {"role": "assistant", "content": "<think>Red.</think>Here it is.", "images": [part]}
    chat_server.answer = lambda body: said(message, "length")
    extra = {"modalities": ["image", "text"]}
    adapter = openai(base_url=chat_server.url, draws=True, extra=extra)
    wanted = [ImageOutput(seed=1 << 40), ImageOutput(seed=7, steps=20)]
    asked = [Request(f"{n}" * 64, Prompt(("draw red",)), each) for n, each in enumerate(wanted)]
    adapter.load()
    found = adapter.answer(asked)
    for response, output in zip(found, wanted, strict=True):
        kept = output.kept(response)
        assert ([each.data for each in kept.images], kept.error) == ([data], None)
        assert (kept.text, kept.thought) == ("Here it is.", "Red.")
        assert TextOutput().kept(response).images == kept.images
    assert found[1].marks[0] == Mark("unmet", "steps")
    assert {body["seed"] for body in chat_server.asked} == {0, 7}
    assert all(body["modalities"] == ["image", "text"] for body in chat_server.asked)
    message = {"role": "assistant", "content": "I cannot draw."}
    (refused,) = adapter.answer(asked[:1])
    assert wanted[0].kept(refused).error == "the model returned no image"
    adapter.close()
    check_request(adapter, "served", asked[0], "task", "query 1")
    with pytest.raises(PlanError, match="needs image"):
        check_request(openai(), "served", asked[0], "task", "query 1")
