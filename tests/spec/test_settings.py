"""Settings: declared once, checked once, and every fault told with its path and a way out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import pytest

from emu2eval import registry
from emu2eval.errors import ConfigError, PartError, Several, UserError
from emu2eval.registry import bound, build, check_options
from emu2eval.spec.settings import Settings, Source, read

if TYPE_CHECKING:
    from nowhere import Unheard  # type: ignore[import-not-found]


class Part(Settings):
    encoder: str
    weight: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5


class Options(Settings):
    layout: Literal["turns", "single"] = "turns"
    batch: Annotated[int, msgspec.Meta(ge=1)] | None = 8
    rate: Annotated[float, msgspec.Meta(gt=0)] | None = None
    key: str | None = None
    part: Part | None = None
    parts: tuple[Part, ...] = ()
    steps: dict[int, float] = msgspec.field(default_factory=dict)
    either: dict[str, str] | str | None = None
    name: str

    def __post_init__(self) -> None:
        if self.layout == "single" and self.rate is not None:
            raise ValueError("a rate is for turns")
        if self.name == "nobody":
            raise ConfigError("nobody is not a name", hint="try somebody")


def declared(pool: Sequence[str], settings: Options) -> Options:
    return settings


def told(options: Mapping[str, Any]) -> list[str]:
    with pytest.raises(UserError) as caught:
        check_options("scorer x", declared, options, given=1)
    return [part.what.replace(" of scorer x", "") for part in caught.value.parts]


def test_values_become_what_is_declared() -> None:
    found = check_options(
        "scorer x",
        declared,
        {
            "name": "y",
            "rate": 3,
            "part": {"encoder": "e", "weight": 1},
            "parts": [{"encoder": "f"}],
            "steps": {0: 1, "2": 2.5},
            "either": {"a": "b"},
        },
        given=1,
    )
    assert found == Options(
        name="y",
        rate=3.0,
        part=Part(encoder="e", weight=1.0),
        parts=(Part(encoder="f"),),
        steps={0: 1.0, 2: 2.5},
        either={"a": "b"},
    )
    assert isinstance(found, Options)
    assert isinstance(found.rate, float)
    assert check_options("scorer x", declared, found, given=1) == found


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"batch": 0}, "the option 'batch': expected an integer of at least 1, or null, got 0"),
        ({"batch": True}, "the option 'batch': expected an integer of at least 1, or null, got true"),
        ({"rate": 0}, "the option 'rate': expected a number above 0, or null, got 0"),
        ({"layout": "turn"}, "the option 'layout': expected 'single' or 'turns'; did you mean 'turns'?"),
        ({"layout": 1}, "the option 'layout': expected 'single' or 'turns', got an integer"),
        ({"part": "e"}, "the option 'part': expected a mapping or null, got a string"),
        ({"part": {}}, "the option 'part' needs the key 'encoder'"),
        (
            {"part": {"encoder": "e", "weight": 2}},
            "the option 'part.weight': expected a number from 0 to 1, got 2",
        ),
        (
            {"part": {"encoder": "e", "wait": 1}},
            "the option 'part' has no key 'wait'; did you mean 'weight'?",
        ),
        ({"parts": [{"encoder": 1}]}, "the option 'parts.0.encoder': expected a string, got an integer"),
        ({"parts": "e"}, "the option 'parts': expected a list, got a string"),
        ({"steps": {"a": 1}}, "the option 'steps.a': expected an integer, got a string"),
        ({"either": {"a": 1}}, "the option 'either.a': expected a string, got an integer"),
        ({"either": 1}, "the option 'either': expected a mapping or a string, or null, got an integer"),
        ({"layout": "single", "rate": 1}, "the options: a rate is for turns"),
        ({"bach": 1}, "scorer x has no option 'bach'; did you mean 'batch'?"),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_its_path(options: Mapping[str, Any], says: str) -> None:
    assert told({"name": "y", **options}) == [says]


def test_settings_made_in_python_are_checked_like_those_of_a_file() -> None:
    with pytest.raises(ConfigError, match="'batch' of scorer x: expected an integer of at least 1"):
        check_options("scorer x", declared, Options(name="y", batch=0), given=1)


def test_every_fault_is_told_unknown_options_before_missing_ones() -> None:
    assert told({"nam": "y", "batch": 0, "part": {"encoder": None}}) == [
        "scorer x has no option 'nam'; did you mean 'name'?",
        "the option 'batch': expected an integer of at least 1, or null, got 0",
        "the option 'part.encoder': expected a string, got null",
        "scorer x needs the option 'name'",
    ]


def test_a_value_that_may_be_a_secret_is_not_shown() -> None:
    for options in ({"key": ["sk-1"]}, {"layout": "sk-1"}, {"batch": "sk-1"}, {"part": "sk-1"}):
        assert "sk-1" not in " ".join(told({"name": "y", **options}))
    assert told({"name": 31337}) == ["the option 'name': expected a string, got an integer"]


def test_an_error_of_the_declaration_itself_keeps_its_hint_and_gets_a_place() -> None:
    with pytest.raises(ConfigError, match="nobody is not") as caught:
        check_options("scorer x", declared, {"name": "nobody"}, given=1, where="a.yaml:3")
    assert (caught.value.where, caught.value.hint) == ("a.yaml:3", "try somebody")


def test_the_place_of_each_option_is_told() -> None:
    source = Source("scorer x", lambda keys: "a.yaml:" + "/".join(map(str, keys)))
    with pytest.raises(Several) as caught:
        read(Options, {"nam": "y", "part": {"encoder": 1}}, source)
    assert [p.where for p in caught.value.parts] == ["a.yaml:nam", "a.yaml:part/encoder", "a.yaml:"]


def test_other_errors_of_a_declaration_are_told_as_the_parts_own() -> None:
    class Broken(Settings):
        def __post_init__(self) -> None:
            raise TypeError("oh dear")

    def part(settings: Broken) -> None: ...

    part.__annotations__["settings"] = Broken
    with pytest.raises(PartError, match="the reader 'r' failed: TypeError: oh dear"):
        bound("reader", "r", part)


# -- plain parameters -----------------------------------------------------------------------------


def plain(
    root: str, files: str | list[str], *, frames: int = 16, mode: Literal["a", "b"] = "a"
) -> Any:
    return root, files, frames, mode


def forward(root: str, first: Unheard, count: int = 1) -> Any:
    return root, first, count


def open_ended(size: int = 1, **more: Any) -> Any:
    return size, more


@pytest.mark.parametrize(
    ("factory", "options", "says"),
    [
        (plain, {}, "reader r needs the option 'files'"),
        (plain, {"files": 1}, "the option 'files': expected a string or a list, got an integer"),
        (plain, {"files": "f", "frame": 1}, "reader r has no option 'frame'; did you mean 'frames'?"),
        (plain, {"files": "f", "frames": "1"}, "the option 'frames': expected an integer, got a string"),
        (plain, {"files": "f", "mode": "c"}, "the option 'mode': expected 'a' or 'b'"),
        (forward, {"first": 1, "count": "x"}, "the option 'count': expected an integer, got a string"),
    ],
)  # fmt: skip
def test_plain_parameters_are_checked_by_their_signature(
    factory: Callable[..., Any], options: Mapping[str, Any], says: str
) -> None:
    with pytest.raises(UserError) as caught:
        check_options("reader r", factory, options, given=1)
    assert caught.value.what.replace(" of reader r", "") == says


def test_a_path_may_be_wanted() -> None:
    def here(folder: Path) -> Path:
        return folder

    assert check_options("reader r", here, {"folder": "a/b"}) == {"folder": Path("a/b")}


def test_plain_parameters_keep_their_own_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {"plain": plain, "open": open_ended, "declared": declared, "bound": 3}
    monkeypatch.setattr(registry, "find", lambda kind, name, **_: parts[name])
    assert build("reader", "plain", {"files": ["f"]}, given=("root",)) == ("root", ["f"], 16, "a")
    assert build("reader", "open", {"size": 2, "other": 3}) == (2, {"other": 3})
    assert build("reader", "declared", {"name": "y"}, given=([],)) == Options(name="y")
    with pytest.raises(ConfigError, match="not a class or a function"):
        build("scorer", "bound")
