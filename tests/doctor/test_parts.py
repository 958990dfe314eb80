"""Every part that a file can name says what it is and what its options mean."""

from __future__ import annotations

import json
from typing import Annotated, Any

import msgspec
import pytest

from emu2eval import registry
from emu2eval.doctor import parts
from emu2eval.report import listing
from emu2eval.spec.options import meanings, options_of
from emu2eval.spec.settings import Settings

from ..conftest import Program

REGISTERED = [kind for kind in parts.KINDS if kind.removesuffix("s") in registry.BUILT_IN]


def test_every_registry_is_listed() -> None:
    assert {kind.removesuffix("s") for kind in REGISTERED} == set(registry.BUILT_IN)
    assert parts.KINDS == listing.PARTS


@pytest.mark.parametrize("kinds", parts.KINDS)
def test_every_part_and_every_option_says_what_it_is(kinds: str) -> None:
    silent = [
        f"{part.name} {option.name}"
        for part in parts.parts(kinds)
        for option in (*part.options, None)
        if not (option.about if option else part.about)
    ]
    assert silent == []


def test_a_part_in_full(program: Program) -> None:
    code, out, _ = program("ls", "scorers", "vqa_accuracy")
    text = " ".join(out.split())
    assert code == 0
    assert "scorer vqa_accuracy (emu2eval.scorers.vqa:VQAAccuracy)" in text
    assert "'vizwiz' or 'vlmevalkit' [official]: the rule" in text
    assert "used by okvqa, textvqa, vqav2" in text
    assert "scorer: vqa_accuracy options: {variant: official" in text


def test_options_inside_options_defaults_and_needs(program: Program) -> None:
    code, out, _ = program("ls", "adapters", "openai", "huggingface", "--json")
    found = json.loads(out)["adapters"]
    assert code == 0
    known = {option["name"]: option for option in found["openai"]["options"]}
    assert known["prices.input"]["type"] == "a number of at least 0, or null"
    assert known["concurrency"]["default"] == "8"
    needed = [o["name"] for o in found["huggingface"]["options"] if o["required"]]
    assert needed == ["checkpoint"]


def test_protocols_name_their_tasks(program: Program) -> None:
    out = program("ls", "protocols", "openflamingo")[1]
    assert "used by coco_caption" in out
    assert "--protocol openflamingo" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("scorers", "vqa_acuracy"), "did you mean 'vqa_accuracy'"),
        (("tasks", "vqav2"), "kind of part 'tasks'"),
        (("scorer",), "did you mean 'scorers'"),
    ],
)
def test_a_name_that_is_none(program: Program, arguments: tuple[str, ...], says: str) -> None:
    code, out, said = program("ls", *arguments)
    assert (code, out) == (2, "")
    assert says in said


def test_lines_fit_the_terminal(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    lines = program("ls", "choosers")[1].splitlines()
    assert max(map(len, lines)) <= 60


def test_a_declared_description_comes_before_the_docstring() -> None:
    class Mine(Settings):
        """size: of the docstring; other, third: shared words. Groups: no option."""

        size: Annotated[int, msgspec.Meta(ge=1, description="of the declaration")]
        other: float | None = None
        third: tuple[str, ...] = ("a",)

    found = options_of(msgspec.structs.fields(Mine), [Mine.__doc__ or ""], {})
    told: list[Any] = [(o.name, o.required, o.default, o.about) for o in found]
    assert told == [
        ("size", True, None, "of the declaration"),
        ("other", False, "null", "shared words"),
        ("third", False, "[a]", "shared words"),
    ]


def test_only_declared_names_have_meanings() -> None:
    assert meanings(["images: the folder. Note: of x; file: it."], ["file"]) == {"file": "it"}
