"""Templates and prompts: every image in its place, or an error."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu2eval.errors import ConfigError, UnknownName, UserError
from emu2eval.prompts import PromptBuilder, Template
from emu2eval.spec.task import CaseSpec, ProtocolSpec, ZeroShotSpec
from emu2eval.types import Image, Prompt, Sample, Turn

A, B = Image(data=b"a"), Image(data=b"b")
SAMPLE = Sample("1", {"q": "who?"}, (A, B), answer="me")


def fill(text: str, sample: Sample = SAMPLE) -> tuple[object, ...]:
    return Template.compile(text, "here").fill(sample)


def test_images_and_fields_take_their_places() -> None:
    assert fill("{image} and {image}: {q}") == (A, " and ", B, ": who?")
    assert fill("{images}{q} {{literal}}") == (A, B, "who? {literal}")
    assert fill("{image}x{images}") == (A, "x", B)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{image}{q}", "places 1 of the 2 images"),
        ("{q}", "places 0 of the 2 images"),
        ("{image}{image}{image}", "more images than"),
        ("{images}{who}", "unknown template field 'who'"),
        ("{images}{q.__class__}", "plain field names"),
        ("{images}{q!r}", "plain field names"),
        ("{images}{q:>10}", "plain field names"),
        ("{images}{0}", "plain field names"),
        ("{images}{", "Single|expected"),
    ],
)
def test_what_a_template_may_not_do(text: str, says: str) -> None:
    with pytest.raises((ConfigError, UnknownName), match=says):
        fill(text)


@given(st.text())
def test_data_is_never_read_as_a_template(text: str) -> None:
    sample = Sample("1", {"q": text}, (A,))
    expected = (A, text) if text else (A,)
    assert fill("{image}{q}", sample) == expected


PROTOCOL = ProtocolSpec(
    ask="{image}{q}",
    system="be brief",
    lead=" = ",
    separator="; ",
    zero_shot=ZeroShotSpec(ask="{image}one word: {q}"),
)


def sample(name: str, answer: str | Image = "yes") -> Sample:
    return Sample(name, {"q": f"{name}?"}, (Image(data=name.encode()),), answer=answer)


def test_demonstrations_stand_before_the_query() -> None:
    one, two, query = (sample(name) for name in ("one", "two", "query"))
    prompt = PromptBuilder(PROTOCOL, "here").build(query, [one, two])
    assert prompt.flat() == (
        "be brief",
        *(one.images[0], "one? = yes; "),
        *(two.images[0], "two? = yes; "),
        *(query.images[0], "query?"),
    )
    assert list(prompt.images()) == [one.images[0], two.images[0], query.images[0]]


def test_zero_shot_may_ask_otherwise() -> None:
    prompt = PromptBuilder(PROTOCOL, "here").build(sample("query"), [])
    assert prompt.query[1] == "one word: query?"
    assert prompt.turns == ()


def test_the_system_text_names_fields_of_the_query() -> None:
    protocol = ProtocolSpec(ask="{q}", system="All are {kind}; {{as it is}}.")
    builder = PromptBuilder(protocol, "here")
    query = Sample("1", {"q": "who?", "kind": "red"}, answer="me")
    shown = Sample("2", {"q": "what?", "kind": "blue"}, answer="it")
    for demonstrations in ([], [shown]):
        assert builder.build(query, demonstrations).system == "All are red; {as it is}."
    with pytest.raises(UnknownName, match="unknown template field 'kind'"):
        builder.build(Sample("3", {"q": "who?"}), [])


def test_text_only_drops_the_demonstrations_images_and_no_other() -> None:
    query = sample("query")
    prompt = PromptBuilder(PROTOCOL, "here").build(query, [sample("one")], text_only=True)
    assert prompt.turns[0].ask == ("one?",)
    assert prompt.query == (query.images[0], "query?")


def test_a_reply_can_be_a_image() -> None:
    prompt = PromptBuilder(PROTOCOL, "here").build(sample("query"), [sample("one", A)])
    assert prompt.turns[0].reply == (A,)
    assert A in prompt.flat()


def test_a_demonstration_needs_an_answer() -> None:
    with pytest.raises(ConfigError, match="no answer to show"):
        PromptBuilder(PROTOCOL, "here").build(sample("query"), [Sample("1", {"q": ""}, (A,))])


@given(st.lists(st.tuples(st.booleans(), st.text(max_size=3)), max_size=5))
def test_flat_keeps_every_letter_and_image_in_order(parts: list[tuple[bool, str]]) -> None:
    turns = tuple(Turn((A, text) if image else (text,), (text,)) for image, text in parts)
    flat = Prompt(query=("q",), turns=turns, lead="|", separator="#").flat()
    text = "".join(part for part in flat if isinstance(part, str))
    assert text == "".join(f"{t}|{t}#" for _, t in parts) + "q"
    assert sum(isinstance(part, Image) for part in flat) == sum(p for p, _ in parts)
    assert not any(isinstance(a, str) and isinstance(b, str) for a, b in pairwise(flat))


def marked(question: str, ask: str, *shown: Image) -> tuple[object, ...]:
    sample = Sample("1", {"question": question}, shown)
    return Template.compile(ask, "here", "<image {number}>").fill(sample)


def test_images_stand_where_the_text_marks_them() -> None:
    ask = "{images}Q: {question}"
    assert marked("in <image 2> or <image 1>?", ask, A, B) == ("Q: in ", B, " or ", A, "?")
    assert marked("in <image 1> and <image 1>", ask, A) == ("Q: in ", A, " and ", A)
    # What no mark places is placed by the template.
    assert marked("in <image 2>?", ask, A, B) == (A, "Q: in ", B, "?")
    with pytest.raises(ConfigError, match="refers to image 3, but has 2"):
        marked("in <image 3>?", ask, A, B)
    with pytest.raises(ConfigError, match="places 1 of the 2"):
        marked("in <image 2>?", "{question}", A, B)


def test_marks_are_texts_unless_the_protocol_says_so() -> None:
    sample = Sample("1", {"question": "in <image 1>?"}, (A,))
    assert Template.compile("{image}{question}", "here").fill(sample) == (A, "in <image 1>?")
    with pytest.raises(ConfigError, match="contain no"):
        Template.compile("{question}", "here", "<image>")


def test_a_field_decides_the_wording() -> None:
    protocol = ProtocolSpec(
        ask="{images}{q} of {options}?",
        marks="<{number}>",
        cases=CaseSpec(field="kind", ask={"open": "{images}{q}?"}),
    )
    builder = PromptBuilder(protocol, "here")
    closed = Sample("1", {"q": "which", "options": "x, y", "kind": "closed"}, (A,), answer="x")
    free = Sample("2", {"q": "what is <1>", "kind": "open"}, (B,), answer="z")
    prompt = builder.build(free, [closed, free])
    assert [turn.ask for turn in prompt.turns] == [(A, "which of x, y?"), ("what is ", B, "?")]
    assert prompt.query == builder.build(free, []).query == ("what is ", B, "?")
    (turn,) = builder.build(free, [free], text_only=True).turns
    assert turn.ask == ("what is ?",)
    with pytest.raises(UnknownName, match="kind"):
        builder.build(Sample("3", {"q": "", "options": ""}, (A,)), [])


@pytest.mark.parametrize(
    "text", ["{image}{question}", "{question}{image} {image}.", "{images}x", "{a}", "", "{answer}"]
)
@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("answer", ["red", "", None, Image(path="c")])
def test_the_short_way_of_filling_in_gives_what_the_careful_one_does(
    text: str, count: int, answer: str | Image | None
) -> None:
    """The careful one alone says what is wrong; the short one leaves all that is odd to it."""
    shown = tuple(Image(path=name) for name in "ab"[:count])
    sample = Sample("1", {"question": "What?", "a": ""}, shown, answer)
    template = Template.compile(text, "here")
    for with_images in (True, False):
        short = template.plainly(sample, shown, with_images=with_images)
        try:
            careful = template._carefully(sample, with_images)
        except UserError:
            assert short is None
        else:
            assert short in (careful, None)
            assert short is not None or isinstance(answer, Image)
