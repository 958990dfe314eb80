"""Kinds of output: each has its own keys, and somebody else's goes by module:attr."""

from __future__ import annotations

import os
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from emu2eval.errors import ConfigError, UnknownName
from emu2eval.spec.outputs import ChoiceSpec, ImageSpec, TextSpec
from emu2eval.spec.task import load_task
from emu2eval.types import ChoiceOutput, ImageOutput, TextOutput

from .test_files import TASK

BOXED = '''
from dataclasses import dataclass
from typing import ClassVar

from emu2eval.spec.outputs import ImageSpec, OutputSpec
from emu2eval.types import Output


@dataclass(frozen=True, slots=True)
class BoxedOutput(Output):
    """An image with a box."""

    kind: ClassVar[str] = "boxed"
    seed: int = 0
    corners: int = 2


class BoxedSpec(OutputSpec):
    makes = BoxedOutput
    corners: int = 2

    @property
    def takes(self): return 3

    @property
    def random(self): return True

    def build(self, choices, noise=0):
        return BoxedOutput(noise, self.corners)


@dataclass(frozen=True)
class Ranked(Output):
    """Names in order, drawn anew each time."""

    kind: ClassVar[str] = "ranked"
    choices: tuple[str, ...] = ()
    most: int = 5
    seed: int = 0


class NoSpec:
    pass
'''


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "boxed_of_a_test.py").write_text(textwrap.dedent(BOXED))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "boxed_of_a_test", raising=False)

    def output(mapping: str, protocol: str = "{}", **overrides: Any) -> Any:
        path = tmp_path / "sums.yaml"
        protocols = f'  plain: {{ask: "{{question}}", output: {protocol}}}\n'
        path.write_text(TASK.partition("  plain:")[0] + protocols + f"output: {mapping}\n")
        changes = {f"output.{key}": value for key, value in overrides.items()}
        return load_task(os.fspath(path), overrides=changes).spec.output

    return output


def test_the_kinds_that_come_with_the_package(load: Any) -> None:
    assert load("{}") == TextSpec()
    text = load('{kind: text, max_new_tokens: 3, stop: ["."], length_penalty: 1}')
    assert text.build(()) == TextOutput(3, stop=(".",), length_penalty=1.0)
    choice = load("{kind: choice, choices: [no, yes], per_token: true}")
    assert (choice.choices, choice.takes, choice.random) == (("no", "yes"), 1, False)
    assert choice.build(("a",)) == ChoiceOutput(("no", "yes"), per_token=True)
    assert ChoiceSpec(named="choice").build(("a", "b")) == ChoiceOutput(("a", "b"))
    image = load("{kind: image, images: 4, width: 8, seed: 5}")
    assert (image.kind, image.takes, image.random, image.seed) == ("image", 4, True, 5)
    assert image.build((), 7) == ImageOutput(7, width=8)


def test_there_is_nothing_to_choose_from() -> None:
    with pytest.raises(ConfigError, match="no choices to rank"):
        ChoiceSpec().build(())


@pytest.mark.parametrize(
    ("output", "kind", "says"),
    [
        ("{kind: img}", UnknownName, "unknown output 'img'; did you mean 'image'"),
        ("{kind: 3}", ConfigError, "output.kind: expected a string, got an integer"),
        ("{images: 2}", UnknownName, "unknown key 'images'"),
        ("{kind: image, stop: []}", UnknownName, "unknown key 'stop'; did you mean 'steps'"),
        ("{kind: image, images: 0}", ConfigError, "output.images: .* at least 1, got 0"),
        ("{kind: 'boxed_of_a_test:BoxedSpec', corner: 3}", UnknownName, "did you mean 'corners'"),
        (
            "{kind: 'boxed_of_a_test:NoSpec'}",
            ConfigError,
            "not a subclass of emu2eval.OutputSpec or emu2eval.Output",
        ),
    ],
)
def test_keys_of_another_kind_are_refused(load: Any, output: str, kind: Any, says: str) -> None:
    with pytest.raises(kind, match=says) as caught:
        load(output)
    assert str(caught.value.where).endswith("sums.yaml:12")


def test_a_kind_of_somebody_else(load: Any) -> None:
    output = load("{kind: 'boxed_of_a_test:BoxedSpec', corners: 4}")
    made = output.build((), 9)
    assert (output.kind, output.takes, output.random) == ("boxed", 3, True)
    assert (made.kind, made.seed, made.corners) == ("boxed", 9, 4)


def test_an_output_class_alone_gives_its_fields_as_keys(load: Any) -> None:
    output = load("{kind: 'boxed_of_a_test:Ranked', most: 3, seed: 4}")
    assert (output.kind, output.takes, output.random, output.seed) == ("ranked", 1, True, 4)
    made = output.build(("a", "b"), 9)
    assert (made.choices, made.most, made.seed) == (("a", "b"), 3, 9)
    assert output == load("{kind: 'boxed_of_a_test:Ranked', most: 3, seed: 4}")
    with pytest.raises(UnknownName, match="did you mean 'most'"):
        load("{kind: 'boxed_of_a_test:Ranked', mots: 3}")


def test_another_kind_starts_anew(load: Any) -> None:
    """The keys of the file's kind mean nothing to the kind that a protocol or --set names."""
    text = '{kind: text, stop: ["."]}'
    assert load(text, "{kind: choice}") == ChoiceSpec(named="choice")
    assert load(text, "{beams: 2}").stop == (".",)
    assert load(text, "{beams: 2}", kind="image", images=2) == ImageSpec(named="image", images=2)
    assert load(text, "{kind: choice}", kind="text", beams=3).beams == 3
