"""The baselines, and the rules that every adapter must keep."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import pytest
from PIL import Image as PILImage

from emu2eval.adapters import conformance
from emu2eval.adapters.base import Adapter, Limits
from emu2eval.adapters.baselines import Copy, MostCommon, Nearest
from emu2eval.adapters.scripted import Scripted, ScriptedSettings
from emu2eval.media import images
from emu2eval.types import (
    ChoiceOutput,
    Image,
    ImageOutput,
    Output,
    Part,
    Prompt,
    Request,
    Response,
    TextOutput,
    Turn,
)


def square(colour: str) -> Image:
    image = PILImage.new("RGB", (32, 32), "white")
    image.paste(colour, (8, 8, 24, 24))
    return images.from_pil(image)


def ask(adapter: Adapter, turns: list[tuple[str, str, str]], query: tuple[str, str],
        output: Output | None = None) -> Response:  # fmt: skip
    """turns: (colour, question, reply)."""
    shown = tuple(Turn((square(c), q), (r,)) for c, q, r in turns)
    parts: tuple[Part, ...] = (square(query[0]), query[1])
    prompt = Prompt(query=parts, turns=shown)
    return next(iter(adapter.answer([Request("k", prompt, output or TextOutput())])))


TURNS = [
    ("red", "what colour?", "red"),
    ("blue", "is it round?", "no"),
    ("green", "is it round?", "no"),
    ("blue", "what colour?", "blue"),
]


def test_most_common() -> None:
    assert ask(MostCommon(), TURNS, ("red", "what colour?")).text == "no"
    # Of equals, the one nearest to the query.
    assert ask(MostCommon(), TURNS[:2], ("red", "what colour?")).text == "no"
    assert ask(MostCommon(), TURNS[1::-1], ("red", "what colour?")).text == "red"


def test_nearest_looks_at_image_and_question() -> None:
    assert ask(Nearest(), TURNS, ("red", "what colour?")).text == "red"
    assert ask(Nearest(), TURNS, ("blue", "what colour?")).text == "blue"
    assert ask(Nearest(), TURNS, ("blue", "is it round?")).text == "no"


@pytest.mark.parametrize("adapter", [MostCommon(), Nearest()])
def test_without_demonstrations_nothing_is_known(adapter: Adapter) -> None:
    assert ask(adapter, [], ("red", "what colour?")).text == ""
    even = ask(adapter, [], ("red", "?"), ChoiceOutput(("a", "b"))).log_probs
    assert even is not None
    assert even[0] == even[1]


def test_copy_gives_back_the_last_image_it_was_shown() -> None:
    def copied(*query: Part, turns: tuple[Turn, ...] = ()) -> bytes:
        asked = Request("k", Prompt(query=query, turns=turns), ImageOutput())
        (response,) = Copy().answer([asked])
        assert response.image is not None
        return images.load(response.image).tobytes()

    def pixels(colour: str) -> bytes:
        return images.load(square(colour)).tobytes()

    shown = (Turn(("draw a square",), (square("red"),)),)
    assert copied(square("blue"), "Make it red", turns=shown) == pixels("blue")
    assert copied("draw another", turns=shown) == pixels("red")
    assert len(set(copied("draw a square"))) == 1  # nothing was shown: one grey
    asked = Request("k", Prompt(query=(Image("nowhere.png"),)), ImageOutput())
    (lost,) = Copy().answer([asked])
    assert lost.error is not None and "nowhere.png" in lost.error


def test_choices_lean_to_what_was_shown() -> None:
    for adapter in (MostCommon(), Nearest()):
        found = ask(
            adapter, TURNS, ("green", "is it round?"), ChoiceOutput(("yes", "no"))
        ).log_probs
        assert found is not None
        assert found[1] > found[0]


@pytest.mark.parametrize("adapter", [Copy(), MostCommon(), Nearest(), Scripted(ScriptedSettings())])
def test_those_that_come_with_the_package_conform(adapter: Adapter) -> None:
    findings = list(conformance.check(adapter))
    assert len(findings) > 8
    assert [f for f in findings if not f.holds] == []


class Bad(Adapter):
    """Breaks one rule at a time."""

    def __init__(self, fault: str):
        self.fault = fault
        outputs = {"speech"} if fault == "outputs" else {"text"}
        self.limits = Limits(frozenset(outputs), batch=0 if fault == "batch" else 4)
        self.counter = count()

    def identity(self) -> dict[str, object]:
        changing = {"changes": next(self.counter)}
        return {"a": object()} if self.fault == "json" else changing if self.fault == "id" else {}

    def positions(self, request: Request) -> int | None:
        return 7 if self.fault == "positions" else None

    def answer(self, requests: Sequence[Request]) -> list[Response]:
        if self.fault == "raises":
            raise ValueError("oh")
        if self.fault == "alone":
            return [Response(text=f"{len(requests)}") for _ in requests]
        if self.fault == "order":
            return [
                Response(text=f"{n}") if n else Response(text="0") for n in range(len(requests))
            ]
        if self.fault == "again":
            return [Response(text=f"{next(self.counter) > 8}") for _ in requests]
        if self.fault == "count":
            return [Response(text="x")]
        if self.fault == "kind":
            return [Response(log_probs=(-1.0,)) for _ in requests]
        return [Response(text="x") for _ in requests]


@pytest.mark.parametrize(
    ("fault", "rule"),
    [
        ("outputs", "outputs that exist"),
        ("batch", "at least one request"),
        ("json", "identity"),
        ("id", "identity"),
        ("positions", "positions"),
        ("raises", "without raising"),
        ("alone", "same alone and in a batch"),
        ("order", "in any order"),
        ("again", "same when repeated"),
        ("count", "one response per request"),
        ("kind", "of the requested kind"),
    ],
)
def test_each_rule_can_be_broken(fault: str, rule: str) -> None:
    broken = [f.rule for f in conformance.check(Bad(fault)) if not f.holds]
    assert any(rule in found for found in broken), broken


def test_one_that_keeps_every_rule() -> None:
    assert all(f.holds for f in conformance.check(Bad("")))
