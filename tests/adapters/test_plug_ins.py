"""`emu2eval check --adapter`: a plug-in that is broken is told which rule it breaks, and how."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

PLUG_INS = """
import itertools
from emu2eval import Adapter, Limits, Response

TEXT = frozenset({"text"})


class Sound(Adapter):
    outputs, more = TEXT, {}

    def __init__(self):
        self.limits = Limits(outputs=self.outputs, **self.more)

    def answer(self, requests):
        return [Response(text="yes") for _ in requests]


class NoLimits(Sound):
    def __init__(self): ...
class OtherLimits(Sound):
    def __init__(self): self.limits = {"outputs": ["text"]}
class OtherOutputs(Sound):
    outputs = frozenset({"words"})
class ListedOutputs(Sound):
    outputs = ["text"]
class NoBatch(Sound):
    more = {"batch": 0}
class NoAdapter: ...
class NoAnswer(Adapter): ...
class NotMade(Sound):
    def __init__(self): raise ValueError("bad luck")
class WantsPath(Sound):
    def __init__(self, path): ...
class NoIdentity(Sound):
    def identity(self): return {"x": object()}
class OtherIdentity(Sound):
    count = itertools.count()
    def identity(self): return {"x": next(self.count)}
class NotLoaded(Sound):
    def load(self): raise FileNotFoundError("weights.bin")
class NotClosed(Sound):
    def close(self): raise RuntimeError("stuck")
class Short(Sound):
    def answer(self, requests): return [Response(text="yes")]
class Nothing(Sound):
    def answer(self, requests): return None
class Strings(Sound):
    def answer(self, requests): return ["yes" for _ in requests]
class Raises(Sound):
    def answer(self, requests): raise RuntimeError("out of paper")
class RaisesAlone(Sound):
    def answer(self, requests):
        if len(requests) == 1: raise RuntimeError("lonely")
        return super().answer(requests)
class Errors(Sound):
    def answer(self, requests): return [Response(error="no ink") for _ in requests]
class NoText(Sound):
    def answer(self, requests): return [Response() for _ in requests]
class ByBatch(Sound):
    def answer(self, requests): return [Response(text=str(len(requests))) for _ in requests]
class ByOrder(Sound):
    def answer(self, requests): return [Response(text=str(i)) for i, _ in enumerate(requests)]
class Remembers(Sound):
    count = itertools.count()
    def answer(self, requests): return [Response(text=str(next(self.count))) for _ in requests]
class FewChoices(Sound):
    outputs = frozenset({"choice"})
    def answer(self, requests): return [Response(log_probs=(-1.0,)) for _ in requests]
class Probabilities(FewChoices):
    def answer(self, requests): return [Response(log_probs=(0.3, 0.7)) for _ in requests]
class Uncounted(Sound):
    more = {"positions": 100}
class Flat(Sound):
    def positions(self, request): return 7
class Twice(Sound):
    def stream(self, requests):
        for pair in enumerate(self.answer(requests)):
            yield pair
            yield pair
"""


@pytest.fixture
def plug_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plug_ins_of_a_test.py").write_text(PLUG_INS)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("NoLimits", "no declares its limits not set; set self.limits = Limits(…)"),
        ("OtherLimits", "no declares its limits `limits` is {'outputs': ['text']}"),
        ("OtherOutputs", "no declares outputs that exist words; known are text, choice, image"),
        ("ListedOutputs", "['text'] is not a frozenset with values from text, choice, image"),
        ("NoBatch", "no accepts at least one request at a time 0"),
        ("NoAnswer", "no can be made TypeError: Can't instantiate abstract class NoAnswer"),
        ("NotMade", "no can be made ValueError: bad luck (plug_ins_of_a_test.py:"),
        ("NoIdentity", "no its identity is JSON and stable TypeError"),
        ("OtherIdentity", 'no its identity is JSON and stable {"x":0}, {"x":1}'),
        ("NotLoaded", "no loads without raising FileNotFoundError: weights.bin (plug_ins_of_a"),
        ("NotClosed", "no closes without raising RuntimeError: stuck (plug_ins_of_a_test.py:"),
        ("Short", "no text: one response per request 1 for 3"),
        (
            "Nothing",
            "no text: one response per request answer() returned None, not a list of Response",
        ),
        ("Strings", "answer() returned ['yes', 'yes', 'yes'], not a list of Response"),
        ("Raises", "no text: answers without raising RuntimeError: out of paper (plug_ins_of_a"),
        ("RaisesAlone", "no text: answers without raising RuntimeError: lonely"),
        ("Errors", "no text: no response is an error no ink"),
        (
            "NoText",
            "no text: each response is of the requested kind the model returned no text, but got nothing",
        ),
        ("ByBatch", "no text: same alone and in a batch '3' and then '1'"),
        ("ByOrder", "no text: same in any order '0' and then '2'"),
        ("Remembers", "no text: same when repeated '0' and then '9'"),
        (
            "FewChoices",
            "the model did not return a log-probability for every choice, but got (-1.0,)",
        ),
        ("Probabilities", "log_probs (0.3, 0.7) are not log-probabilities"),
        ("Uncounted", "does not count, although its limits declare 100 positions"),
        ("Flat", "no counts more positions for more demonstrations, or does not count 7, 7, 7"),
        ("Twice", "no text: each answer arrives once indices [0, 0, 1, 1, 2, 2] arrived, of 3"),
    ],
)
def test_what_is_broken_is_told(plug_ins: None, program: Any, name: str, says: str) -> None:
    code, printed, _ = program("check", "--adapter", f"plug_ins_of_a_test:{name}")
    assert code != 0
    assert says in " ".join(printed.split())


def test_a_sound_one_passes(plug_ins: None, program: Any) -> None:
    code, printed, _ = program("check", "--adapter", "plug_ins_of_a_test:Sound")
    assert code == 0
    assert {line.split()[0] for line in printed.splitlines()} == {"ok"}


def test_one_that_is_no_adapter_is_refused(plug_ins: None, program: Any) -> None:
    code, _, errors = program("check", "--adapter", "plug_ins_of_a_test:NoAdapter")
    assert code == 2
    assert "is a class but not a subclass of emu2eval.Adapter" in errors


def test_one_that_wants_settings_goes_by_a_model_file(plug_ins: None, program: Any) -> None:
    code, _, errors = program("check", "--adapter", "plug_ins_of_a_test:WantsPath")
    assert code == 2
    assert "needs the option 'path'" in errors and "check --model ./FILE.yaml" in errors
