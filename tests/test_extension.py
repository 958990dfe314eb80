"""A user's own task, adapter, scorer, chooser and reader, without touching the package."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from emu2eval import evaluate
from emu2eval.errors import ConfigError, MissingExtra, UnknownName
from emu2eval.registry import build
from emu2eval.scorers import vqa

MODULE = '''
from emu2eval import Adapter, Limits, Response, Sample, Score, Scorer
from emu2eval.fewshot.choosers import Chooser, Demonstration


class Loud(Adapter):
    """Says the reply of the last demonstration in capitals."""

    def __init__(self, mark: str = "!"):
        self.limits = Limits(frozenset({"text"}), batch=4)
        self.mark = mark

    def answer(self, requests):
        return [Response(text=self.say(r.prompt)) for r in requests]

    def say(self, prompt):
        return prompt.turns[-1].reply[0].upper() + self.mark if prompt.turns else "?"


class Letters(Scorer):
    """The share of letters that are right."""

    metric = "letters"

    def score(self, sample, response):
        right = sum(a == b for a, b in zip(sample.references[0].upper(), response.text))
        return Score(right / len(sample.references[0]))


class FirstOnes(Chooser):
    """The first of the pool."""

    def ranked(self, query, trial):
        for sample in self.pool:
            yield Demonstration(sample, "first ones")


def numbers(root, count):
    """A reader: sums."""
    for n in range(count):
        yield Sample(f"n{n}", {"question": f"{n} + {n} ="}, answer=str(2 * n), references=(str(2 * n),))
'''

TASK = """
name: sums
title: Sums without images
data:
  reader: my_parts:numbers
  splits: {all: {count: 9}}
split: all
demonstrations: {chooser: "my_parts:FirstOnes"}
score: {scorer: "my_parts:Letters"}
protocol: plain
protocols: {plain: {ask: "{question}"}}
"""


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "my_parts.py").write_text(MODULE)
    (tmp_path / "sums.yaml").write_text(TASK)
    (tmp_path / "loud.yaml").write_text(
        'name: loud\nadapter: "my_parts:Loud"\nsettings: {mark: ""}\n'
    )
    monkeypatch.delitem(sys.modules, "my_parts", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def test_every_part_can_be_a_users_own(parts: Path) -> None:
    (result,) = evaluate("./sums.yaml", "./loud.yaml", shots=[1], out=parts / "runs")
    # Every query but the first is shown 0 + 0 = 0; the first is shown 1 + 1 = 2. No sum is 0 but its own.
    assert result.rows[0].label == "letters"
    assert result.rows[0].n == 9
    assert result.rows[0].value == 0


def test_as_a_process_in_the_users_folder(parts: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "emu2eval.cli", "run", "-t", "./sums.yaml", "-m", "./loud.yaml"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "letters" in done.stdout
    checked = subprocess.run(
        [sys.executable, "-m", "emu2eval.cli", "check", "--adapter", "my_parts:Loud"],
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stdout
    assert "same alone and in a batch" in checked.stdout


def test_entry_points_are_found(parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an installed package declares them: a real distribution's folder on the path."""
    info = parts / "loud_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: loud-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[emu2eval.adapters]\nloudest = my_parts:Loud\n")
    monkeypatch.syspath_prepend(parts)
    (parts / "model.yaml").write_text("name: plugged\nadapter: loudest\n")
    (result,) = evaluate("./sums.yaml", "./model.yaml", shots=[1], out=parts / "runs")
    assert result.rows[0].model == "plugged"


def test_csv_and_a_folder_of_images(parts: Path, make_task: Any) -> None:
    task = make_task()
    (task.parent / "test.csv").write_text(
        "number,file,question,answer\n7,0001.png,what is it?,green\n8,0002.png,and this?,blue\n"
    )
    task.write_text(
        textwrap.dedent(
            """
            name: mine
            title: My own
            data:
              reader: table
              root: .
              options: {id: number, images: file, folder: images}
              splits: {test: {files: test.csv}, train: {files: train.jsonl, id: id, images: image}}
            split: test
            demonstrations: {split: train}
            score: {scorer: exact_match}
            protocol: plain
            protocols: {plain: {ask: "{image}{question}"}}
            """
        )
    )
    (result,) = evaluate(str(task), "nearest", shots=[4], out=parts / "runs")
    assert result.rows[0].n == 2


def test_a_missing_extra_is_named_with_its_command(
    parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (parts / "needy.py").write_text("import transformers\n\nclass Needy: ...\n")
    (parts / "model.yaml").write_text("name: x\nadapter: needy:Needy\n")
    # What an import statement meets where the package is not installed.
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtra) as caught:
        evaluate("./sums.yaml", "./model.yaml")
    assert caught.value.hint == "pip install 'emu2eval[hf]'"


def test_a_variant_that_needs_nltk_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    vqa._porter.cache_clear()
    monkeypatch.setitem(sys.modules, "nltk.stem.porter", None)
    with pytest.raises(MissingExtra, match="okvqa_porter"):
        vqa.vqa_accuracy("unstemmed before", ["dog"] * 10, "okvqa_porter")


@pytest.mark.parametrize(
    ("adapter", "says"),
    [
        ("my_part:Loud", "cannot be imported"),
        ("my_parts:Lowd", "did you mean 'Loud'"),
        ("my_parts:MODULE", "my_parts has no attribute 'MODULE'"),
    ],
)
def test_what_cannot_be_found_is_named(parts: Path, adapter: str, says: str) -> None:
    (parts / "model.yaml").write_text(f"name: x\nadapter: {adapter}\n")
    with pytest.raises((ConfigError, UnknownName), match=says):
        evaluate("./sums.yaml", "./model.yaml")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"batch": "many"}, r"the option 'batch' .* an integer.*, got a string"),
        ({"concurrency": True}, r"the option 'concurrency' .* an integer.*, got true"),
        ({"base_url": 8000}, r"the option 'base_url' .* a string, got an integer"),
        ({"budget": 10}, r"the option 'budget' .* got an integer"),
        ({"key_env": ["sk-secret"]}, r"the option 'key_env' .* got a list"),
        ({"layout": 3}, r"the option 'layout' .* 'single' or 'turns', got an integer"),
        ({"layout": "sk-secret"}, r"the option 'layout' .* 'single' or 'turns'"),
    ],
)
def test_an_option_of_the_wrong_kind_is_told_without_its_value(options: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        build("adapter", "openai", {"model": "m", **options})
    assert "sk-secret" not in str(caught.value)
    assert build("adapter", "openai", {"model": "m", "timeout": 5}) is not None
