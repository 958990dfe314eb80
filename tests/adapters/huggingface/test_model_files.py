"""Every shipped model file of this adapter: it validates, and its settings are the adapter's."""

from __future__ import annotations

import pytest

from emu2eval import registry
from emu2eval.spec import catalog
from emu2eval.spec.model import ModelSpec, load_model


def shipped() -> list[ModelSpec]:
    return [
        spec for spec in map(load_model, catalog.names("model")) if spec.adapter == "huggingface"
    ]


@pytest.mark.parametrize("spec", shipped(), ids=lambda spec: spec.name)
def test_file(spec: ModelSpec) -> None:
    factory = registry.find("adapter", spec.adapter)
    registry.check_options(spec.name, factory, spec.settings)
    assert spec.settings["checkpoint"].count("/") == 1
    assert spec.settings["layout"] in ("chat", "plain")
    assert "positions" in spec.about and "Not run with its real weights" in spec.about
    assert spec.licence and spec.source.startswith("https://huggingface.co/")
    assert spec.settings["checkpoint"] in spec.source


def test_the_families() -> None:
    names = {spec.name for spec in shipped()}
    assert len(names) >= 14
    assert {"idefics", "kosmos-2", "molmo2", "qwen3-vl", "pixtral"} <= names
