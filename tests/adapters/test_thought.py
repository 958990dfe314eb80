"""A model's thought and its answer are told apart, whatever tags the model has."""

from __future__ import annotations

import doctest

import pytest

from emu2eval.adapters import thought
from emu2eval.adapters.thought import TAGS, UNCLOSED, Apart, apart, opens, separated
from emu2eval.types import Response, TextOutput


def test_examples_in_docstrings() -> None:
    assert doctest.testmod(thought).failed == 0


@pytest.mark.parametrize("tags", TAGS, ids=[first for first, _ in TAGS])
def test_every_kind_of_tag(tags: tuple[str, str]) -> None:
    first, last = tags
    wanted = Apart("down", "left?\n\nNo.")
    assert apart(f"{first}\nleft?\n\nNo.\n{last}\n\ndown") == wanted
    assert apart(f"\n\n{first}left?\n\nNo.{last}down") == wanted
    assert apart(f"left?\n\nNo.\n{last}\n\ndown", opened=True) == wanted
    assert apart(f"left?\n\nNo.\n{last}\n\ndown") == wanted
    assert apart(f"{first}left?\n\nNo.") == Apart(None, "left?\n\nNo.")
    assert opens(f"assistant\n{first}\n") and not opens(f"assistant\n{first}\n\n{last}\n\n")


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        ("<think>a</think>\n<think>b</think>\n\ndown", Apart("down", "a\n\nb")),
        ("<think></think>\n\ndown", Apart("down")),
        ("<think>a</think>", Apart("", "a")),
        ("\n\ndown", Apart("\n\ndown")),
        ("Use <think> tags", Apart("Use <think> tags")),
        ("", Apart("")),
    ],
)
def test_odd_texts(raw: str, wanted: Apart) -> None:
    assert apart(raw) == wanted


def test_a_response_keeps_the_answer_the_thought_and_all_of_it() -> None:
    found = separated(Response(text="<think>left?</think>\n\ndown", ended="stop"))
    raw = "<think>left?</think>\n\ndown"
    assert found == Response(text="down", thought="left?", raw=raw, ended="stop")
    assert separated(Response(text="down")) == Response(text="down")
    assert separated(Response(text=raw, thought="left?")).thought == "left?"  # told twice
    stopped = TextOutput(stop=("\n",)).kept(found)
    assert (stopped.text, stopped.raw) == ("down", raw)


def test_a_thought_that_was_never_closed_is_unscored_and_kept() -> None:
    found = separated(Response(text="It shows a squ", ended="length"), opened=True)
    assert (found.text, found.error) == (None, UNCLOSED)
    assert (found.thought, found.raw) == ("It shows a squ", "It shows a squ")
