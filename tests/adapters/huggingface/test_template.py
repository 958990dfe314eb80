"""A chat template that changes a prompt is refused before any request, or its answers are marked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from emu2eval.adapters.huggingface.template import ChatTemplate, message
from emu2eval.errors import PlanError
from emu2eval.report.notes import of_marks
from emu2eval.types import Mark, Prompt, Turn

from .prompts import CHOICES, QUESTION, built, image, request

TURN = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
END = "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
IN_ORDER = (
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}<image>{% else %}{{ c['text'] | trim }}"
    "{% endif %}{% endfor %}"
)
IMAGES = "{% for c in m['content'] if c['type'] == 'image' %}<image>{% endfor %}"
TEXTS = "{% for c in m['content'] if c['type'] == 'text' %}{{ c['text'] }}{% endfor %}"
FIRST = "{{ (m['content'] | selectattr('type', 'equalto', 'text') | first)['text'] }}"
SYSTEM_LAST = (
    "{% for m in messages if m['role'] != 'system' %}" + IN_ORDER + "{% endfor %}"
    "{% for m in messages if m['role'] == 'system' %}" + IN_ORDER + "{% endfor %}"
)

APART = Prompt(
    query=("Look at", image(3), "and say: " + QUESTION),
    turns=(Turn(("Look at", image(2), QUESTION), ("red ",)),),
    system="Be brief.",
)
"""Texts on both sides of an image."""


@pytest.mark.parametrize(
    ("template", "says"),
    [
        (TURN + IMAGES + FIRST + END, "shows 4 of the prompt's 6 texts, and drops 'what colour is"),
        (TURN + "{% if m['role'] != 'system' %}" + IN_ORDER + "{% endif %}" + END,
         "drops the system text, 'Be brief.'"),
        (SYSTEM_LAST, "moves the system text after a text that should follow it"),
        (TURN + IN_ORDER + "{% if loop.last %}" + TEXTS + "{% endif %}" + END, "more than once"),
        (TURN + IMAGES + "{{ m['content'] }}" + END, "expects a message as one string"),
        (TURN + IMAGES + "{{ m['content'] | trim }}" + END, "expects a message as one string"),
        # Whatever a text's own words make of the template.
        (TURN + IMAGES + TEXTS.replace("c['text']", "c['text'].split(' say: ')[-1]") + END,
         "changes or drops a text in the prompt, 'and say: what colour"),
        (TURN + TEXTS + END, "shows 0 of the prompt's 2 images"),
    ],
)  # fmt: skip
def test_what_is_lost_is_refused(model_file: Callable[..., str], template: str, says: str) -> None:
    adapter = built(model_file("idefics3"))
    adapter.opened.processor.chat_template = template
    with pytest.raises(PlanError, match=says.replace("(", r"\(")):
        adapter.positions(request(APART))


def test_a_prompt_with_an_opening_is_one_message_of_the_user(
    model_file: Callable[..., str],
) -> None:
    form = built(model_file("idefics3")).opened.form
    asked = replace(APART, system="", opening="Try this. ")
    whole = Prompt(
        (
            "Try this. Look at",
            image(2),
            QUESTION + " red \nLook at",
            image(3),
            "and say: " + QUESTION,
        ),
        system="",
    )
    assert form.encode(asked).ids == form.encode(whole).ids != form.encode(APART).ids


def test_images_that_are_moved_are_marked(model_file: Callable[..., str]) -> None:
    adapter = built(model_file("idefics3"))
    adapter.opened.processor.chat_template = TURN + IMAGES + TEXTS + END
    adapter.load()
    in_front = Prompt(query=(image(3), QUESTION), turns=(Turn((image(2), QUESTION), ("red",)),))
    moved, kept = adapter.answer([request(APART), request(in_front)])
    assert moved.error is None and moved.marks == (Mark("images_moved"),)
    assert kept.error is None and kept.marks == ()
    (sentence,) = of_marks([(Mark("images_moved"), 2)])
    assert sentence.startswith("in 2 prompts the model's chat template moved images")


@pytest.mark.parametrize(
    "texts", ["{{ m['content'] | trim }}", "{{ '' + m['content'] }}"], ids=["written", "raises"]
)
def test_templates_that_want_texts_as_strings(model_file: Callable[..., str], texts: str) -> None:
    """Of a system text and of replies; Llama 3.2 and Pixtral have such templates."""
    adapter = built(model_file("idefics3"))
    adapter.opened.processor.chat_template = (
        TURN
        + "{% if m['role'] == 'user' %}"
        + IN_ORDER
        + "{% else %}"
        + texts
        + "{% endif %}"
        + END
    )
    ids = adapter._lay_out(request(APART)).encoded.ids
    shown = adapter.opened.processor.tokenizer.decode(ids)
    assert "system\nBe brief.<|im_end|>" in shown and "assistant\nred" in shown
    assert "type" not in shown
    assert adapter.positions(request(APART, CHOICES)) > len(ids)


def test_what_is_shown_in_order_is_taken(model_file: Callable[..., str]) -> None:
    """White space is the template's own; so are texts without a word."""
    adapter = built(model_file("idefics3"))
    adapter.opened.processor.chat_template = TURN + IN_ORDER + END
    for system in (None, "", " \n", "Be\n\nbrief. "):
        asked = Prompt(query=(image(3), "\n", QUESTION), turns=APART.turns, system=system)
        assert adapter.positions(request(asked)) > 0
    template = ChatTemplate(adapter.opened.processor, "<image>")
    assert not template.moves_images([message("user", [{"type": "image"}])])
