"""The table of families is what tiny models of them show, the slower ones of them in `make test-slow`."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from emu2eval.adapters.huggingface import families as table
from emu2eval.errors import UserError

from .checking import differences
from .families import FAMILIES
from .prompts import built

QUICK = {
    *("chameleon", "gemma3", "granite_docling", "idefics", "idefics2", "idefics3", "internvl"),
    *("kosmos2", "llava", "llava_onevision", "ovis2", "paligemma", "pixtral", "qwen3_vl"),
}
"""Checked at each change: one of each way of taking images."""


def line(name: str) -> table.Family:
    """The table's line of a tiny model."""
    found = table.find(FAMILIES[name].model_type or name)
    assert found is not None
    return found


def needs(name: str) -> None:
    """Skips the test where a package that the family wants is not installed."""
    for package in line(name).packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}")


def named(verdict: str) -> list[Any]:
    return [
        pytest.param(name, marks=() if name in QUICK else (pytest.mark.slow,))
        for name in sorted(FAMILIES)
        if line(name).verdict == verdict
    ]


# GLM's processor itself makes an array of tensors in a way that numpy is giving up.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("name", named("works"))
def test_it_equals_its_own_processor_and_model(model_file: Callable[..., str], name: str) -> None:
    needs(name)
    assert differences(partial(built, model_file(name)), FAMILIES[name]) == []


@pytest.mark.parametrize("name", named("refused"))
def test_it_is_refused_for_the_reason_in_the_table(
    model_file: Callable[..., str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one paragraph; and rightly: asked all the same, it raises or differs."""
    needs(name)
    with pytest.raises(UserError) as refused:
        built(model_file(name)).load()
    assert line(name).why in refused.value.what
    monkeypatch.setattr(table, "find", lambda model_type: None)
    try:
        found = differences(partial(built, model_file(name)), FAMILIES[name])
    except Exception:
        return
    assert found != []


@pytest.mark.parametrize(
    "family",
    [f for f in table.FAMILIES if f.verdict == "refused"],
    ids=lambda family: family.model_type,
)
def test_a_config_is_enough_to_be_refused(tmp_path: Path, family: table.Family) -> None:
    """Before a processor is loaded or a package is missed."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family.model_type}))
    model = tmp_path / "model.yaml"
    settings = {"checkpoint": str(tmp_path)}
    model.write_text(
        yaml.safe_dump({"name": "any", "adapter": "huggingface", "settings": settings})
    )
    with pytest.raises(UserError) as refused:
        built(str(model)).load()
    assert family.why in refused.value.what


@pytest.mark.parametrize("name", named("untried"))
def test_what_is_called_untried_is_not_equal(model_file: Callable[..., str], name: str) -> None:
    needs(name)
    try:
        found = differences(partial(built, model_file(name)), FAMILIES[name])
    except Exception:
        return
    assert found != []


def test_every_family_of_transformers_stands_in_the_table() -> None:
    from transformers.models.auto import modeling_auto

    known: Any = modeling_auto
    listed = [family.model_type for family in table.FAMILIES]
    assert set(known.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES) <= set(listed)
    assert len(set(listed)) == len(listed) and listed == sorted(listed)


def test_every_line_has_what_it_says() -> None:
    """A family that works has a tiny model that shows it; every other one a reason."""
    shown = {FAMILIES[name].model_type or name for name in FAMILIES}
    for family in table.FAMILIES:
        if family.verdict == "works":
            assert family.model_type in shown
        else:
            assert family.why, family.model_type
    assert shown <= {family.model_type for family in table.FAMILIES}
    assert FAMILIES.keys() >= QUICK


def test_the_documentation_has_the_tables_figures() -> None:
    count = Counter(family.standing for family in table.FAMILIES)
    page = Path(__file__).parents[3] / "docs" / "families.md"
    if not page.is_file():
        pytest.skip("the package's sources are not here")
    text = page.read_text(encoding="utf-8")
    both = count["works"] + count["needs"]
    assert f"Of {count.total()} families" in text
    assert f"| equal | {both} ({count['needs']} of them need torchvision or timm) |" in text
    assert f"| refused, with a reason | {count['refused']} |" in text
    assert f"| not built or not equal yet | {count['untried']} |" in text
