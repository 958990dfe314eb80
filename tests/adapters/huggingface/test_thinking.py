"""Thought and answer of a model on this machine, told apart by what its tokenizer writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from emu2eval import evaluate
from emu2eval.adapters.huggingface.reading import TransformersReader
from emu2eval.adapters.huggingface.thinking import Thinking
from emu2eval.adapters.local.pieces import Pieces, Stretch
from emu2eval.adapters.local.search import Found
from emu2eval.adapters.thought import TAGS
from emu2eval.errors import ConfigError, PlanError
from emu2eval.runs.store import RunStore
from emu2eval.types import Response, TextOutput

from . import families
from .prompts import CHOICES, built, prompt, request

PLAIN, SPECIAL = ("<think>", "</think>"), ("◁think▷", "◁/think▷")
OPENS = families.CHATML.replace("IMAGE", "<image>").replace(
    "assistant\n{% endif %}",
    "assistant\n{% if enable_thinking is undefined or enable_thinking %}<think>\n{% endif %}"
    "{% endif %}",
)


def words(*special: str) -> Any:
    tokenizer = families.tokenizer(["<|im_end|>"])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_end|>", *special]})
    return tokenizer


def said(
    tokenizer: Any, text: str, most: int = 10, room: int = 0, begun: str = "assistant\n"
) -> Response:
    def ids(of: str) -> tuple[int, ...]:
        return tuple(tokenizer.encode(of, add_special_tokens=False))

    given = ids(begun)
    found = Found(ids(text), ended=True)
    return Thinking(tokenizer, room).response(found, Pieces((Stretch(given),)), most)


@pytest.mark.parametrize("tags", [PLAIN, SPECIAL], ids=["text", "special tokens"])
@pytest.mark.parametrize("opened", [False, True])
def test_a_thought_is_no_part_of_the_answer(tags: tuple[str, str], opened: bool) -> None:
    tokenizer = words(*(tags if tags == SPECIAL else ()))
    first, last = tags
    begun = f"assistant\n{first}\n" if opened else "assistant\n"
    text = f"{'' if opened else first}a square? yes{last}\n\nred<|im_end|>"
    found = said(tokenizer, text, begun=begun)
    assert (found.text, found.thought, found.error) == ("red", "a square? yes", None)
    assert found.raw == text.removesuffix("<|im_end|>")
    cut = said(tokenizer, text.partition(last)[0], begun=begun)
    assert cut.text is None and cut.thought == "a square? yes"
    assert "during its reasoning" in str(cut.error) and "model.settings.thinking" in str(cut.error)


def test_every_tag_may_be_a_special_token() -> None:
    for tags in TAGS:
        found = said(words(*tags), f"{tags[0]}hm{tags[1]}red")
        assert (found.text, found.thought) == ("red", "hm"), tags


def test_what_holds_no_thought_is_as_it_was() -> None:
    for text in ("red", " red\nblue", ""):
        assert said(words(*SPECIAL), text) == Response(text=text, ended="stop")


@pytest.mark.parametrize("thought", ["", "<think>a square? yes</think>\n\n"])
def test_the_answer_has_the_tokens_of_the_task_whatever_the_thought_takes(thought: str) -> None:
    tokenizer = words()
    answer = "red green blue yellow black"
    whole = said(tokenizer, thought + answer, most=200, room=50)
    assert (whole.text, whole.ended) == (answer, "stop")
    cut = said(tokenizer, thought + answer, most=2, room=50)
    wanted = tokenizer.decode(tokenizer.encode(answer, add_special_tokens=False)[:2])
    assert (cut.text, cut.ended) == (wanted, "length")


@pytest.fixture
def thinks(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any, str], None]:
    """Makes a loaded model say a text."""

    def say(adapter: Any, text: str) -> None:
        ids = tuple(adapter.opened.processor.tokenizer.encode(text, add_special_tokens=False))

        def generate(self: Any, rows: Any, sequences: Any, *_: Any) -> list[Found]:
            return [Found(ids, ended=True) for _ in sequences]

        monkeypatch.setattr(TransformersReader, "generate", generate)

    return say


def test_the_stop_of_a_task_ends_the_answer_and_no_thought(
    model_file: Callable[..., str],
    make_task: Callable[..., Path],
    thinks: Callable[[Any, str], None],
    tmp_path: Path,
) -> None:
    model = model_file("idefics3", thinking=30)
    thinks(built(model), "<think>a\nsquare?</think>\n\nblue\nis it")
    task = str(make_task(queries=3, output={"stop": ["\n"]}))
    (result,) = evaluate(task, model, out=tmp_path / "runs")
    answers = list(RunStore(result.folder).answers())
    assert {(each.text, each.thought) for each in answers} == {("blue", "a\nsquare?")}
    assert {each.raw for each in answers} == {"<think>a\nsquare?</think>\n\nblue\nis it"}


def test_a_template_that_begins_the_thought(
    model_file: Callable[..., str], thinks: Callable[[Any, str], None]
) -> None:
    asked = request(prompt(1, 0))
    adapter, without = (
        built(model_file("idefics3", **settings))
        for settings in ({"thinking": 7}, {"template_options": {}})
    )
    for each in (adapter, without):
        each.opened.processor.chat_template = OPENS
    assert adapter.positions(asked) == without.positions(asked) + 7
    with pytest.raises(
        PlanError, match="starts a reasoning block, in which choices cannot be ranked"
    ):
        without.positions(request(prompt(1, 0), CHOICES))
    said = without.warning(asked)
    assert said is not None and "enable_thinking=false" in said
    assert without.warning(request(prompt(1, 0), TextOutput(2000))) is None
    adapter.load()
    thinks(adapter, "no tag yet")
    (found,) = adapter.answer([asked])
    assert found.text is None and found.thought == "no tag yet" and found.error
    opened = without.opened
    form = replace(opened.form, options={"enable_thinking": False})
    without.__dict__["opened"] = replace(opened, form=form)
    assert without.warning(asked) is None
    ranked = request(prompt(2, 0), CHOICES)
    assert without.positions(ranked) and not without.opened.thinking.opened(
        without._lay_out(ranked).pieces
    )


def test_an_option_that_the_template_does_not_know(model_file: Callable[..., str]) -> None:
    (error,) = built(model_file("idefics3", template_options={"enable_thinking": False})).lacks()
    assert isinstance(error, ConfigError) and "no option 'enable_thinking'" in error.what
    (error,) = built(model_file("llava", template_options={"enable_thinking": False})).lacks()
    assert "layout: chat" in error.what
