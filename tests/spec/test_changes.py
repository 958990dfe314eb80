"""Changes: from assignments or a mapping, merged, and back to assignments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu2eval.errors import ConfigError, UnknownName
from emu2eval.spec.changes import Changes
from emu2eval.spec.model import load_model
from emu2eval.spec.task import load_task

plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
keys = st.lists(st.text("abc_", min_size=1), min_size=1, max_size=3).map(".".join)


def test_assignments_nested_and_dotted_mappings_are_one() -> None:
    wanted = Changes(
        task={"output.max_new_tokens": 20, "output.stop": ["\n", "."]},
        model={"settings.layout": "single"},
        judge={"settings.batch": 4},
    )
    assignments = [
        "task.output.max_new_tokens=20",
        'task.output.stop=["\\n", .]',
        "model.settings.layout=single",
        "judge.settings.batch=4",
    ]
    nested = {
        "task": {"output": {"max_new_tokens": 20, "stop": ("\n", ".")}},
        "model": {"settings.layout": "single"},
        "judge.settings.batch": 4,
    }
    assert Changes.parse(assignments) == wanted
    assert Changes.of(assignments) == wanted
    assert Changes.of(nested) == wanted
    assert Changes.of(wanted) is wanted
    assert not Changes.of(None)
    assert msgspec.json.decode(msgspec.json.encode(wanted), type=Changes) == wanted


@given(st.dictionaries(keys, plain | st.lists(plain, max_size=3) | st.just({}), max_size=3))
def test_assignments_say_the_same_again(changes: dict[str, Any]) -> None:
    made = Changes(task=changes)
    assert Changes.parse(made.assignments()) == made


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("true", True),
        ("null", None),
        ("", ""),
        ("{image}{question}", "{image}{question}"),
        ("{image}", "{image}"),
        ("{image} Question: {question}", "{image} Question: {question}"),
        ("Question: {question}", "Question: {question}"),
        ("{}", {}),
        ("[1, no]", [1, "no"]),
        ("[1,", "[1,"),
        ("a=b", "a=b"),
    ],
)
def test_values_of_assignments_are_yaml(text: str, value: Any) -> None:
    assert Changes.parse([f"task.x={text}"]).task == {"x": value}


def test_a_mapping_sets_its_keys() -> None:
    made = Changes.parse(
        ['task.x={"a": 1, b: {c: no}}', "model.settings.image_options={size: [2]}"]
    )
    assert made.task == {"x.a": 1, "x.b.c": "no"}
    assert made.model == {"settings.image_options.size": [2]}
    with pytest.raises(ConfigError, match=r"the key model\.layers contains a dot"):
        Changes.parse(["model.settings.device_map={model.layers: 0}"])


def test_the_later_changes_win() -> None:
    first = Changes(task={"a": 1, "b": 1}, model={"c": 1})
    assert first.merged(Changes(task={"b": 2}, judge={"d": 2})) == Changes(
        task={"a": 1, "b": 2}, model={"c": 1}, judge={"d": 2}
    )


@pytest.mark.parametrize(
    ("given", "kind", "says"),
    [
        (["output.beams=3"], ConfigError, "task.KEY=VALUE"),
        (["task.output.beams"], ConfigError, "task.KEY=VALUE"),
        ("task.a=1", ConfigError, "a list of assignments, not str"),
        ({"tasks": {"a": 1}}, UnknownName, "did you mean 'task'"),
        ({"tasks": {}}, UnknownName, "did you mean 'task'"),
        ({"task": 3}, ConfigError, "changes to the task must be a mapping"),
        (
            {"task": {"a": Path}},
            ConfigError,
            "task.a has the type type, which YAML cannot represent",
        ),
    ],
)
def test_what_is_no_change_is_told(given: Any, kind: type[Exception], says: str) -> None:
    with pytest.raises(kind, match=says):
        Changes.of(given)


def test_a_path_is_its_text() -> None:
    assert Changes.of({"model": {"settings": {"checkpoint": Path("a/b")}}}).model == {
        "settings.checkpoint": "a/b"
    }


def test_faults_of_changes_are_told_at_set() -> None:
    with pytest.raises(ConfigError, match=r"output\.max_new_tokens: expected an integer") as caught:
        load_task("easy-vqa", overrides={"output.max_new_tokens": "many"})
    assert caught.value.where == "--set task.output.max_new_tokens"
    with pytest.raises(UnknownName, match="unknown key 'settins'; did you mean 'settings'"):
        load_model("nearest", overrides={"settins.batch": 3})
    with pytest.raises(ConfigError, match="'name' is a value and has no keys"):
        load_model("nearest", overrides={"name.first": "x"})
