"""YAML that is too much is told before anything is built; what PyYAML stumbles over is no traceback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from emu2eval.errors import ConfigError
from emu2eval.spec import yamlbounds
from emu2eval.spec.changes import Changes
from emu2eval.spec.yamlfile import parse_value, read_yaml


def nested(first: str, each: str) -> str:
    """Nine anchors, each of nine of the one before it."""
    lines = [f"a0: &a0 {first}"]
    lines += [f"a{n}: &a{n} " + each.format(", ".join([f"*a{n - 1}"] * 9)) for n in range(1, 10)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "says", "line"),
    [
        (nested("[x]", "[{}]"), "more than 50,000 values", 6),
        (nested("{k: 1}", "{{<<: [{}]}}"), "more than 50,000 values", 6),
        ("name: &a [*a]", r"\*a contains itself", 1),
        ("name: " + "[" * 200_000, "more than 32 levels", 1),
        ("name: " + "[" * 3000 + "]" * 3000, "more than 32 levels", 1),
        ("{" * 100_000, "more than 32 levels", 1),
        ("- " * 100_000, "more than 32 levels", 1),
        ("? " * 100_000, "more than 32 levels", 1),
        (f"x: {'y' * (1 << 20)}", "larger than 1 MiB", 1),
        ("a: 1\nb: " + "9" * 5000, "not a number of a usable length", 2),
        ("a: 1\nb: " + "1:" * 50_000 + "1", "not a number of a usable length", 2),
        ("a: !!int word", "not a number", 1),
        ("a: !!bool word", "does not match its declared type", None),
        ("a: !!int ''", "does not match its declared type", None),
        ("? [a]\n: b", "a key must be a string or an integer", 1),
        ("? {a: b}\n: c", "a key must be a string or an integer", 1),
        ("a: {null: b}", "a key must be a string or an integer", 1),
        ("a: 1\nb: !!python/object/apply:os.system [id]", "not for a plain value", 2),
        ("a: !!timestamp 2020-02-31", "not for a plain value", 1),
        ("a: !!binary aGk=", "not for a plain value", 1),
        ("a: !!set {b}", "not for a plain value", 1),
        ("a: \0", "control characters", None),
        ("a: *b", "undefined alias", 1),
    ],
)  # fmt: skip
def test_what_is_too_much_is_told(tmp_path: Path, text: str, says: str, line: int | None) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says) as caught:
        read_yaml(path)
    assert caught.value.where == (f"{path}:{line}" if line else str(path))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2020-02-31", "2020-02-31"),
        ("2020-02-28 10:00:00", "2020-02-28 10:00:00"),
        ("=", "="),
        ("no", "no"),
        ("[&a {b: 1}, *a]", [{"b": 1}, {"b": 1}]),
        ("- &a {b: 1}\n- {<<: *a, c: 2}", [{"b": 1}, {"b": 1, "c": 2}]),
    ],
)
def test_plain_values_stay_what_they_are(text: str, value: Any) -> None:
    assert parse_value(text) == value


def test_bounds_leave_room() -> None:
    deep = yamlbounds.DEEPEST - 1
    assert parse_value("[" * deep + "]" * deep)
    assert len(parse_value("\n".join(f"- {n}" for n in range(10_000)))) == 10_000


def test_set_takes_no_more_than_a_file_does() -> None:
    with pytest.raises(ConfigError, match="more than 32 levels") as caught:
        Changes.parse(["task.title=" + "[" * 200_000])
    assert caught.value.where == "--set"
    for text in ("9" * 5000, "[a: {", "? [a]", "~: 3", "!!bool x"):
        changes = Changes.parse([f"task.title={text}"])
        assert changes.task == {"title": text}  # a text, as anything else that is no YAML
        assert Changes.parse(changes.assignments()) == changes
